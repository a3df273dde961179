"""Statistics of viability: intervals and samples."""
