"""WebSocket frames as a server sends them (RFC 6455 5): unmasked, unfragmented, so the same bytes for every
subscriber. Pure.

In: messages and close reasons. Out: bytes for the socket. Called by the dialects' formats and `NativeSocket`.
"""

import struct
from typing import Final

try:
    from websockets.speedups import apply_mask
except ImportError:  # no C extension on this platform
    from websockets.utils import apply_mask

__all__ = ["PING", "PONG", "answer_to_close", "close_frame", "frame", "head", "truncated", "unmasked"]

_TEXT: Final = 0x81
_BINARY: Final = 0x82
_CLOSE: Final = 0x88
_HEAD_16: Final = struct.Struct("!BBH").pack

unmasked: Final = apply_mask
"""Unmask a payload, given the payload and its mask (RFC 6455 5.3)."""

PING: Final = b"\x89\x00"
"""An empty ping; its answer is an empty pong (RFC 6455 5.5.2)."""

PONG: Final = 0x8A
"""The first byte of a pong."""


def head(first: int, length: int) -> bytes:
    """Return a frame's header, given its first byte and the length of its payload."""
    if length < 126:
        return bytes((first, length))
    if length < 65536:
        return _HEAD_16(first, 126, length)
    return struct.pack("!BBQ", first, 127, length)


def frame(is_text: bool, data: bytes) -> bytes:
    """Return a message as one frame."""
    size = len(data)
    if size < _SMALL:
        return (_TEXT_HEADS if is_text else _BINARY_HEADS)[size] + data
    return head(_TEXT if is_text else _BINARY, size) + data


_SMALL: Final = 1024
_TEXT_HEADS: Final = [head(_TEXT, size) for size in range(_SMALL)]
_BINARY_HEADS: Final = [head(_BINARY, size) for size in range(_SMALL)]


def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame; the reason is cut to fit (RFC 6455 5.5.1)."""
    payload = struct.pack("!H", code) + truncated(reason).encode()
    return head(_CLOSE, len(payload)) + payload


def truncated(reason: str) -> str:
    """Cut a close reason to the 123 bytes that fit a close frame (RFC 6455 5.5), at a character's edge."""
    return reason.encode()[:123].decode(errors="ignore")


def answer_to_close(frame: bytes) -> bytes | None:
    """Return the answer to an ordinary close frame (RFC 6455 5.5.1), ``None`` for any other.

    A reconnecting crowd sends many of them: they are not worth a `RareFrames`.
    """
    if len(frame) < 2 or not (frame[1] == 0x80 or 0x82 <= frame[1] < 0xFE) or len(frame) != frame[1] - 122:
        return None
    payload = unmasked(frame[6:], frame[2:6])
    code = int.from_bytes(payload[:2], "big") if payload else 1000
    if not (code in (1000, 1001) or 3000 <= code < 5000) or not payload[2:].isascii():
        return None
    return head(_CLOSE, len(payload)) + payload
