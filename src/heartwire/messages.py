"""The content of messages: bytes that are text or not, and the limit of their size."""

import json
from typing import Final, NamedTuple

import msgspec

from heartwire.errors import LimitExceeded

__all__ = ["Body", "check_message_size", "message_too_large", "to_body", "to_json"]


_without_nan: Final = json.JSONEncoder(allow_nan=False, check_circular=False).encode


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
    return Body(True, data.encode() if isinstance(data, str) else to_json(data))


def to_json(value: object) -> bytes:
    """Write a value of an application as JSON, for publishes, answers and arguments.

    Raises ``TypeError`` for what cannot be written so: NaN and infinities (which would become null), half a
    surrogate pair, circles, and objects without a JSON form.
    """
    try:
        written = msgspec.json.encode(value)
        if b"null" in written:  # which msgspec writes for NaN too
            given = msgspec.to_builtins(value, str_keys=True, enc_hook=_nothing)
            if (
                msgspec.json.decode(written) != given
            ):  # a tuple differs too; comparing is quicker than writing
                _without_nan(given)
    except (ValueError, OverflowError, RecursionError) as error:
        raise TypeError(f"{value!r:.100} cannot be written as JSON: {error}") from None
    return written


def _nothing(raw: object) -> None:
    """Stands for a ``msgspec.Raw``, which is JSON already."""


def check_message_size(size: int, max_message_bytes: int) -> None:
    """Raises `LimitExceeded` (``message_too_large``). Every door asks it, before it holds more than that."""
    if size > max_message_bytes:
        raise message_too_large(size, max_message_bytes)


def message_too_large(size: int, max_message_bytes: int) -> LimitExceeded:
    """The one error of a message over the limit."""
    what, setting = "bytes of this message", "max_message_bytes"
    return LimitExceeded("message_too_large", what, size, max_message_bytes, setting)
