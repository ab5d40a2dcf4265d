"""The content of messages: bytes that are text or not, and the limit of their size."""

from typing import NamedTuple

import msgspec

from heartwire.errors import LimitExceeded

__all__ = ["Body", "check_message_size", "message_too_large", "to_body"]


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
        raise message_too_large(size, max_message_bytes)


def message_too_large(size: int, max_message_bytes: int) -> LimitExceeded:
    """The one error of a message over the limit."""
    what, setting = "bytes of this message", "max_message_bytes"
    return LimitExceeded("message_too_large", what, size, max_message_bytes, setting)
