"""Flags on pictures and samples whose numbers are doubtful."""
