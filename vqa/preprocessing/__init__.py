"""Pictures and texts made ready for the networks."""
