"""Model cards: templates, and the parts that are made for them."""
