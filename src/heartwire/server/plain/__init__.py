"""The plain dialect's addresses."""
