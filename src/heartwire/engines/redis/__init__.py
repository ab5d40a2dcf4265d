"""Streams in Redis or Valkey: see `heartwire.engines.redis.engine`."""
