"""Values as the store has them. Pure."""

from typing import Any, Final

import msgspec

from heartwire.engines.wire import publisher_of, publisher_parts
from heartwire.types import Publisher

__all__ = ["FOR_EVER_MS", "ms", "packed_publisher", "unpacked_publisher"]

FOR_EVER_MS: Final = 10**15

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode


def ms(seconds: float) -> int:
    """Milliseconds."""
    return int(min(seconds * 1000, FOR_EVER_MS))


def packed_publisher(who: Publisher | None) -> bytes | None:
    return None if who is None else _encode(publisher_parts(who))


def unpacked_publisher(who: bytes | None) -> Publisher | None:
    return None if who is None else publisher_of(_decode(who))
