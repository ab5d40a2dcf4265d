"""permessage-deflate (RFC 7692) without context takeover: a message is compressed once for all
subscribers with one window.

In: a client's offers and messages to send. Out: the accepted parameters and compressed frames. Called by the
native door of the server and by the dialects' formats, where the option ``compress`` is on.

It is off by default: with context takeover it would cost each connection up to 300 KB, without it small
messages hardly shrink, and compressing takes longer than sending does on most networks.
"""

import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension

from heartwire.transports.websocket.frames import frame, head

__all__ = ["Agreed", "deflated_frame", "extension", "negotiate"]

_FACTORY: Final = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True
)
_WORTH_BYTES: Final = 128
"""Smaller messages gain nothing."""


class Agreed(NamedTuple):
    """What was negotiated.

    Attributes:
        header: the Sec-WebSocket-Extensions of the answer.
        window_bits: the window that the client can inflate: 2 to this power bytes, 9-15.
    """

    header: str
    window_bits: int


def negotiate(offers: Sequence[str]) -> Agreed | None:
    """Accept the first of the offers that fits (RFC 7692 7.1); ``None`` where none does."""
    try:
        offered = [offer for header in offers for offer in parse_extension(header)]
    except InvalidHeader:
        return None
    for name, parameters in offered:
        if name != _FACTORY.name:
            continue
        try:
            accepted, made = _FACTORY.process_request_params(parameters, [])
        except NegotiationError:
            continue
        assert isinstance(made, PerMessageDeflate)
        return Agreed(build_extension([(name, accepted)]), made.local_max_window_bits)
    return None


def extension() -> PerMessageDeflate:
    """Return a reader of compressed messages; it keeps nothing from one message to the next."""
    return PerMessageDeflate(True, True, 15, 15)


def deflated_frame(is_text: bool, data: bytes, window_bits: int = 15) -> bytes:
    """Return a message as one frame, compressed (RFC 7692 7.2.1) where that makes it smaller."""
    if len(data) < _WORTH_BYTES:
        return frame(is_text, data)
    compressor = zlib.compressobj(wbits=-window_bits)
    packed = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
    packed = packed[:-4]  # 7.2.1: the empty block at the end is not sent
    if len(packed) >= len(data):
        return frame(is_text, data)
    return head((0x81 if is_text else 0x82) | 0x40, len(packed)) + packed
