"""The engine for Redis and Valkey, as far as it needs no server."""
