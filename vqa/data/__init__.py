"""Data sets: parquet files, folders and the Hub, read as records."""
