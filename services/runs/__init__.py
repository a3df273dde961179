"""`pollen run`: order runs of deployments, and watch them."""
