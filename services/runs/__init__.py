"""`pollen run`: starts deployments of the flows, and watches their runs."""
