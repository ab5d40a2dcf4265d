"""Decisions about streams: subscriptions, fan-out, liveness, limits. It awaits no I/O and reads no clock."""
