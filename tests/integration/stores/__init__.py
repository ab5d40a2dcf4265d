"""Engines on real stores that are killed, cut off, emptied and replaced."""
