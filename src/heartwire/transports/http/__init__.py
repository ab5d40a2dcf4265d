"""HTTP: streams, server-sent events, polls, and two protocol classes for uvicorn."""
