"""The Centrifugal dialect's addresses."""
