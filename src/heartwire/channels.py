"""The rules for names that clients choose: channels, their namespaces, idempotency keys."""

import re
import unicodedata
from typing import Final

from heartwire.errors import Refused
from heartwire.types import Channel

__all__ = ["check_idempotency_key", "namespace_of", "to_channel"]

_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]{1,255}")


def to_channel(name: str) -> Channel:
    """Check a channel name: 1-255 bytes of UTF-8 without control characters. Raises `Refused`
    (``bad_channel``)."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise Refused(
            "bad_channel", f"channel {name[:64]!a} is not UTF-8: percent-encode its UTF-8 bytes"
        ) from None
    if not 1 <= size <= 255:
        raise Refused(
            "bad_channel",
            f"channel {name[:32]!r}… has {size} bytes: a channel name has 1 to 255 bytes of UTF-8",
        )
    if not name.isalnum():
        bad = next((char for char in name if unicodedata.category(char) == "Cc"), None)
        if bad is not None:
            raise Refused("bad_channel", f"channel {name[:64]!r} holds {bad!r}: no control characters")
    return Channel(name)


def namespace_of(channel: str) -> str:
    """The part before the first ``:``, "" where there is none."""
    return channel.partition(":")[0] if ":" in channel else ""


def check_idempotency_key(key: str) -> str:
    """Return the key. Raises `Refused` (``bad_idempotency_key``) unless it is 1-255 visible ASCII
    characters."""
    if not _VISIBLE_ASCII.fullmatch(key):
        raise Refused(
            "bad_idempotency_key", f"idempotency key {key[:64]!r}: 1 to 255 visible ASCII characters"
        )
    return key
