"""Scores, one metric a file: import each from there, for `evaluate` is slow to load.

What a metric measures stands beside it in `*_measures.py`, which does without `evaluate`.
"""
