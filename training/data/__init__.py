"""Data sets that trainings read: rows into batches."""
