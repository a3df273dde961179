"""Results: from records to the rows of the tables."""
