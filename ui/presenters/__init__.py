"""Results turned into what the page shows; nothing here builds a component."""
