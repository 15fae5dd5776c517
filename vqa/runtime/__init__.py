"""The process itself: its memory, and its peers on other processors and machines."""
