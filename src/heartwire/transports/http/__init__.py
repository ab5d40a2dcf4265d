"""HTTP: streams, server-sent events, polls, and the protocol classes for uvicorn."""
