"""Reports for people: annotated pictures, pages, summaries."""
