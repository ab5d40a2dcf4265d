"""`heartwire compare`: polling, long polling, SSE and WebSocket on one stream of messages, measured side by
side."""
