"""Server-sent events: the event stream format (WHATWG HTML 9.2). Pure.

In: publications and positions, by `SseFormat`. Out: bytes of an event stream, for an `HttpStream`.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from heartwire.types import Channel, Position, Publication

__all__ = ["COMMENT", "HEADERS", "SseEvent", "SseFormat", "opening", "returning", "sse_event"]

HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # no-transform also stops middleware that compresses; X-Accel-Buffering stops nginx from buffering.
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]

COMMENT: Final = b":\n\n"
"""A heartbeat; `EventSource` does not show it."""

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class SseEvent(NamedTuple):
    """An event of a dialect: its name (None: "message") and its data."""

    event: bytes | None
    data: bytes


class SseFormat:
    """`WireFormat` of event stream blocks. The dialect's ``message`` and ``joined`` make the events."""

    join: Final = None
    """See `WireFormat.join`."""

    def __init__(
        self,
        message: Callable[[Publication], SseEvent],
        joined: Callable[[Position, bool], SseEvent | None],
        end: Callable[[Publication], SseEvent],
    ) -> None:
        self.encode = lambda publication: sse_event(str(publication.position), message(publication))
        self._joined = joined
        self._end = end

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> bytes:
        """See `WireFormat.joined`. A block without data sets the last event id and shows no event."""
        return sse_event(str(position), self._joined(position, recovered))

    def ended(self, end: Publication) -> bytes:
        """See `WireFormat.ended`."""
        return sse_event(str(end.position), self._end(end))


def sse_event(id: str, message: SseEvent | None) -> bytes:
    """Return one block: an id, and an event where there is one. Line ends in data become line feeds."""
    block = b"id: %b\n" % id.encode()
    if message is not None:
        if message.event is not None:
            block += b"event: %b\n" % message.event
        block += b"".join(b"data: %b\n" % line for line in _LINE_END.split(message.data))
    return block + b"\n"


def opening(retry_ms: int) -> bytes:
    """Return the first bytes of a stream. A client that waits for them notices a proxy that buffers."""
    return b": heartwire\nretry: %d\n\n" % retry_ms


def returning(retry_ms: int) -> bytes:
    """Return the body for a client to come back later; on a status but 200 `EventSource` gives up."""
    return b"retry: %d\n\n" % retry_ms
