"""The store process: one engine for several workers of a host. See `heartwire.engines.attached`."""
