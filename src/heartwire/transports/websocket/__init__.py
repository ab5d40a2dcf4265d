"""WebSocket: the opening handshake, frames, compression, and a link for each kind of server."""
