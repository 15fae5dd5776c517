"""Losses and validation, one file a task."""
