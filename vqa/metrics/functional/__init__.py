"""What the metrics measure, as plain functions that do without `evaluate`."""
