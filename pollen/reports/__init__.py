"""What people look at: annotated pictures, pages, summaries."""
