"""Durable streams: streams that are created, appended to by producers, closed and deleted."""
