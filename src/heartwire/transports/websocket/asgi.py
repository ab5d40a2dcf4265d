"""WebSocket on any ASGI server, which owns the socket and the frames: messages as ASGI events.

In: messages, from a dialect's formats. Out: events for the ASGI ``send``.
"""

from typing import Any

__all__ = ["event", "event_bytes"]


def event(is_text: bool, data: bytes) -> dict[str, Any]:
    """Return the ASGI event that sends a message."""
    if is_text:
        return {"type": "websocket.send", "text": data.decode()}
    return {"type": "websocket.send", "bytes": data}


def event_bytes(events: list[dict[str, Any]]) -> int:
    """Return about how many bytes these events are on the wire."""
    return sum(len(event["bytes"] if "bytes" in event else event["text"]) + 4 for event in events)
