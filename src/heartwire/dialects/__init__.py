"""What the bytes mean. Pure: no sockets, no clock, no event loop."""
