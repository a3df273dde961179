"""From detected grains to counts: the rules, and the rows of a frame."""
