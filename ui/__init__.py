"""The page: one file a tab, and the theme, examples and guards that they share."""
