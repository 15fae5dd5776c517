"""Small parts of the page that several tabs use."""
