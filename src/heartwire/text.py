"""Whether bytes are UTF-8, and whether they are JSON."""

from typing import Final

import msgspec

from heartwire.errors import Refused

__all__ = ["check_text", "is_json", "is_utf8"]

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
