"""Input to result: loaded models behind plain calls that threads can share."""
