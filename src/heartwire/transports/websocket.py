"""WebSocket on any ASGI server: the server owns the socket and the frames, we own the events."""

import re
from collections.abc import Callable
from typing import Any, Final

__all__ = ["choose_subprotocol", "event", "event_bytes", "handshake_problem", "truncated"]

_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
"""16 bytes in base64 (RFC 6455 4.1)."""


def event(is_text: bool, data: bytes) -> dict[str, Any]:
    """The ASGI event that sends a message."""
    if is_text:
        return {"type": "websocket.send", "text": data.decode()}
    return {"type": "websocket.send", "bytes": data}


def event_bytes(events: list[dict[str, Any]]) -> int:
    """About how many bytes these events are on the wire."""
    return sum(len(event["bytes"] if "bytes" in event else event["text"]) + 4 for event in events)


def choose_subprotocol(offered: list[str], known: tuple[str, ...]) -> str | None:
    """The first offered subprotocol that is known; where none are known, the first offered (RFC 6455 4.2.2 /subprotocol/)."""
    return next((name for name in offered if name and (not known or name in known)), None)


def handshake_problem(headers: Callable[[str], str | None]) -> tuple[str, str] | None:
    """What is wrong with an upgrade request that a server handed on as plain HTTP: an error's name and message.

    RFC 6455 4.2.1 (version, key) and 4.2.2 (426 with the versions spoken).
    """
    version = headers("sec-websocket-version")
    if version != "13":
        return "upgrade_required", f"Sec-WebSocket-Version {version or 'is missing'}: this server speaks 13"
    if not _KEY.fullmatch(headers("sec-websocket-key") or ""):
        return "bad_request", "Sec-WebSocket-Key is missing or not 16 bytes in base64"
    return None


def truncated(reason: str) -> str:
    """A close reason cut to the 123 bytes that fit a close frame (RFC 6455 5.5), on a character's edge."""
    return reason.encode()[:123].decode(errors="ignore")
