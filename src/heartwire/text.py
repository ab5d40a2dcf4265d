"""Whether bytes are UTF-8, and whether they are JSON; JSON as values."""

from typing import Any, Final

import msgspec

from heartwire.errors import Refused

__all__ = ["check_text", "is_json", "is_utf8", "parse_json"]

_raw_decoder: Final = msgspec.json.Decoder(msgspec.Raw)
_JSON_STARTS: Final = frozenset(b' \t\r\n{["-0123456789tfn')


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8 (RFC 3629)."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def check_text(data: bytes) -> bytes:
    """Return the bytes. Raises `Refused` (``invalid_utf8``) where they are not UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        message = f"text is not UTF-8 at byte {error.start}: send UTF-8, or bytes as application/octet-stream"
        raise Refused("invalid_utf8", message) from None
    return data


def is_json(data: bytes) -> bool:
    """Whether UTF-8 bytes are one JSON value (RFC 8259), with white space around it or not."""
    if not data or data[0] not in _JSON_STARTS:
        return False
    try:
        _raw_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def parse_json(data: bytes) -> Any:
    """Return JSON as Python's values. Raises `Refused` (``bad_request``) where it is none, or has no such
    values: a number of more than 4300 digits, or too many levels."""
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:  # DecodeError is a ValueError
        raise Refused("bad_request", f"data: {error}") from None
