"""Whole data sets at once: `python -m vqa.batch`."""
