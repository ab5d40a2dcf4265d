"""WebSocket frames as the server sends them: unmasked, unfragmented, and so the same bytes for every subscriber (RFC 6455 5.2)."""

import struct
from typing import Final

from heartwire.transports.websocket import truncated

__all__ = ["PING", "close_frame", "frame", "head"]

_TEXT: Final = 0x81
_BINARY: Final = 0x82
_CLOSE: Final = 0x88
_TEXT_HEADS: Final = [bytes((_TEXT, size)) for size in range(126)]
_BINARY_HEADS: Final = [bytes((_BINARY, size)) for size in range(126)]
PING: Final = b"\x89\x00"
"""An empty ping; the answer is an empty pong."""


def head(first: int, length: int) -> bytes:
    """A frame's header, given its first byte and the length of its payload."""
    if length < 126:
        return bytes((first, length))
    if length < 65536:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)


def frame(is_text: bool, data: bytes) -> bytes:
    """A message as one frame."""
    size = len(data)
    if size < 126:
        return (_TEXT_HEADS if is_text else _BINARY_HEADS)[size] + data
    return head(_TEXT if is_text else _BINARY, size) + data


def close_frame(code: int, reason: str) -> bytes:
    """A close frame; the reason is cut to what fits (RFC 6455 5.5.1)."""
    payload = struct.pack("!H", code) + truncated(reason).encode()
    return head(_CLOSE, len(payload)) + payload
