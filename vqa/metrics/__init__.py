"""Scores of answers, one metric a file; import each from there, for `evaluate` is slow to load."""
