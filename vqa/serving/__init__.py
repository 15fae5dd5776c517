"""Models served to others: replaced while in use, results as plain data."""
