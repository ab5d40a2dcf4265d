"""WebSocket: frames, the opening handshake, compression, and a link for each door."""
