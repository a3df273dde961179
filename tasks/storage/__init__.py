"""Folders and buckets behind one small interface."""
