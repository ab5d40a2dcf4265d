"""Event streams of the Durable Streams protocol: an event ``data`` for what came, then one ``control``.

In: publications and positions, from core. Out: blocks of `text/event-stream`. A character that two appends
share is held back until it is whole; what is held back follows from the stream's content alone, so that all
readers share one format. `Remainders` has it, also for a reader that comes back.

Each event has an ``id``, beyond the protocol: an ``EventSource`` comes back by it.
"""

import base64
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from heartwire.dialects.durable.codec import Kind, body_of, token
from heartwire.types import Channel, Position, Publication

__all__ = ["LOOK_BACK", "EventFormat", "Remainders", "remainder_of"]

LOOK_BACK: Final = 3
"""How many publications may share a character with the next one: it has four bytes at most."""

_json: Final = msgspec.json.Encoder().encode
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_MAX_REMAINDERS: Final = 4096


class Remainders:
    """What streams of text ended with, where that was not a whole character or line end; the oldest are
    forgotten."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Channel, Position], bytes] = OrderedDict()

    def put(self, channel: Channel, position: Position, rest: bytes) -> None:
        """The text up to a position ends with ``rest``."""
        if rest:
            self._known[channel, position] = rest
            if len(self._known) > _MAX_REMAINDERS:
                self._known.popitem(last=False)

    def get(self, channel: Channel, position: Position) -> bytes:
        """What the text up to a position ends with, of a character that is not whole."""
        return self._known.get((channel, position), b"") if self._known else b""


class EventFormat:
    """`WireFormat` of event streams of one kind, for all their readers.

    Args:
        is_head: whether nothing follows a position now.
        cursor: makes the next cursor.
    """

    def __init__(
        self,
        kind: Kind,
        remainders: Remainders,
        *,
        is_head: Callable[[Channel, Position], bool],
        cursor: Callable[[], int],
    ) -> None:
        self._kind = kind
        self._remainders = remainders
        self._is_head = is_head
        self._cursor = cursor

    @staticmethod
    def encode(publication: Publication) -> Publication:
        """See `WireFormat.encode`: what is sent of it depends on those beside it."""
        return publication

    def join(self, frames: list[Publication], last: Publication) -> bytes:
        """See `WireFormat.join`."""
        channel, at = last.channel, last.position
        data = body_of(self._kind, frames)
        if self._kind == "text":
            data = self._remainders.get(channel, Position(last.epoch, frames[0].offset - 1)) + data
            rest = _remainder(data)
            self._remainders.put(channel, at, rest)
            data = data[: len(data) - len(rest)]
        elif self._kind == "bytes":
            data = base64.b64encode(data)
        return (_event(b"data", data, at) if data else b"") + self._control(channel, at)

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> bytes | None:
        """See `WireFormat.joined`. Where something follows, a control comes with that; a stream that is gone
        ends."""
        if not recovered or not self._is_head(channel, position):
            return None
        return self._control(channel, position)

    def ended(self, end: Publication) -> bytes:
        """See `WireFormat.ended`."""
        at = Position(end.epoch, end.offset - 1)
        rest = self._remainders.get(end.channel, at) if self._kind == "text" else b""
        about = {"streamNextOffset": token(at), "upToDate": True, "streamClosed": True}
        return (_event(b"data", rest, at) if rest else b"") + _event(b"control", _json(about), at)

    def _control(self, channel: Channel, at: Position) -> bytes:
        about: dict[str, Any] = {"streamNextOffset": token(at), "streamCursor": str(self._cursor())}
        if self._is_head(channel, at):
            about["upToDate"] = True
        return _event(b"control", _json(about), at)


def _remainder(data: bytes) -> bytes:
    """The end of a text that belongs to what comes next: a character's first bytes, or the CR of a CRLF."""
    if data[-1:] == b"\r":
        return b"\r"
    for size in range(1, min(LOOK_BACK, len(data)) + 1):
        byte = data[-size]
        if byte >= 0xC0:  # it begins a character, of so many bytes
            whole = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[-size:] if size < whole else b""
        if byte < 0x80:
            break
    return b""


def remainder_of(publications: Sequence[Publication]) -> bytes:
    """The same for the last `LOOK_BACK` publications of a text."""
    return _remainder(b"".join([one.data for one in publications]))


def _event(name: bytes, data: bytes, at: Position) -> bytes:
    # The suite of the protocol looks for lines without the space, which a line of its own space needs.
    lines = [b"data:%b%b\n" % (b" " if line[:1] == b" " else b"", line) for line in _LINE_END.split(data)]
    return b"event: %b\n%bid: %b\n\n" % (name, b"".join(lines), token(at).encode())
