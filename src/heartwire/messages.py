"""What is published: bytes, and whether they are text."""

from typing import NamedTuple

import msgspec

__all__ = ["Body", "to_body"]


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
