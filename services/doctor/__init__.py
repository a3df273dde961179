"""`pollen doctor`: find what is wrong and what to do about it, and explain one run."""
