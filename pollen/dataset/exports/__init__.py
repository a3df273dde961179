"""Read exports of labelling tools, and the dataset itself, without trusting them."""
