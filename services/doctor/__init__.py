"""`pollen doctor`: what is wrong, and the way out; one run explained."""
