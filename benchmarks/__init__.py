"""Side-by-side timings; nothing here is asserted by a test."""
