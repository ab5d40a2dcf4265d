"""WebSocket on any ASGI server: the server owns the socket and the frames, we own the events."""

from typing import Any

__all__ = ["event", "event_bytes", "truncated"]


def event(is_text: bool, data: bytes) -> dict[str, Any]:
    """The ASGI event that sends a message."""
    if is_text:
        return {"type": "websocket.send", "text": data.decode()}
    return {"type": "websocket.send", "bytes": data}


def event_bytes(events: list[dict[str, Any]]) -> int:
    """About how many bytes these events are on the wire."""
    return sum(len(event["bytes"] if "bytes" in event else event["text"]) + 4 for event in events)


def truncated(reason: str) -> str:
    """A close reason cut to the 123 bytes that fit a close frame (RFC 6455 5.5), on a character's edge."""
    return reason.encode()[:123].decode(errors="ignore")
