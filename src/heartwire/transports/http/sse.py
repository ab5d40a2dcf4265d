"""Server-sent events: the event stream format of the WHATWG HTML standard, section 9.2."""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from heartwire.types import Channel, Position, Publication

__all__ = ["COMMENT", "HEADERS", "SseEvent", "SseFormat", "opening", "returning", "sse_event"]

HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # no-transform also stops compressing middleware; X-Accel-Buffering stops nginx from holding the stream
    # back.
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]

COMMENT: Final = b":\n\n"
"""Keeps the connection alive; `EventSource` does not show it."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class SseEvent(NamedTuple):
    """What a dialect wants sent: the event's name (None: "message") and its data."""

    event: bytes | None
    data: bytes


class SseFormat:
    """`WireFormat` of event stream blocks. ``message`` and ``joined`` are the dialect's."""

    join: Final = None
    """See `WireFormat.join`."""

    def __init__(
        self, message: Callable[[Publication], SseEvent], joined: Callable[[Position, bool], SseEvent | None]
    ) -> None:
        self.encode = lambda publication: sse_event(str(publication.position), message(publication))
        self._joined = joined

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> bytes:
        """See `WireFormat.joined`: a block without data moves the last event id and shows no event."""
        return sse_event(str(position), self._joined(position, recovered))


def sse_event(id: str, message: SseEvent | None) -> bytes:
    """One block: an id, and an event where there is a message. Line ends in the data become line feeds."""
    block = b"id: %b\n" % id.encode()
    if message is not None:
        if message.event is not None:
            block += b"event: %b\n" % message.event
        block += b"".join(b"data: %b\n" % line for line in _LINE_END.split(message.data))
    return block + b"\n"


def opening(retry_ms: int) -> bytes:
    """The first bytes of a stream, so that a proxy that holds it back shows at once."""
    return b": heartwire\nretry: %d\n\n" % retry_ms


def returning(retry_ms: int) -> bytes:
    """All there is of a stream whose client is to come back later. `EventSource` gives up for good on any
    status but 200."""
    return b"retry: %d\n\n" % retry_ms
