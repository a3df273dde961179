"""Talk to a Prefect server: reach it, find a run, read what runs published."""
