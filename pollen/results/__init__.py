"""Turn records into the rows of the tables."""
