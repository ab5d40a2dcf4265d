"""The durable dialect's addresses."""
