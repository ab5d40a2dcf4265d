"""The content of messages: bytes that are text or not, and the limit of their size."""

from typing import NamedTuple

import msgspec

from heartwire.errors import LimitExceeded

__all__ = ["Body", "check_message_size", "to_body"]


class Body(NamedTuple):
    """The content of a message."""

    is_text: bool
    data: bytes


def to_body(data: object) -> Body:
    """What an application publishes: ``bytes`` stay bytes, ``str`` is text, anything else is written as JSON
    text.

    Raises ``TypeError`` for what cannot be written as JSON.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return Body(False, bytes(data))
    return Body(True, data.encode() if isinstance(data, str) else msgspec.json.encode(data))


def check_message_size(size: int, max_message_bytes: int) -> None:
    """Raises `LimitExceeded` (``message_too_large``). Every door asks it, before it holds more than that."""
    if size > max_message_bytes:
        raise LimitExceeded(
            "message_too_large", "bytes of this message", size, max_message_bytes, "max_message_bytes"
        )
