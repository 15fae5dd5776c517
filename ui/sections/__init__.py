"""Larger parts of a tab."""
