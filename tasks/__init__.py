"""Stages: one retryable step each, and the stores they read and write."""
