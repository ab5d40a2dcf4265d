"""The plain dialect's wire formats, one object each for all links of a kind.

A link that follows several channels has one of its own, because its messages hold all its positions; the
publications in them are still encoded once for all.
"""

import base64
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

from heartwire.core.link import WireFormat
from heartwire.dialects.plain.codec import end_json, joined_json, publication_json, since_json
from heartwire.dialects.plain.requests import Follow, Vector
from heartwire.transports.http.native_stream import ChunkedFormat
from heartwire.transports.http.poll import PollFormat
from heartwire.transports.http.sse import SseEvent, SseFormat, sse_event
from heartwire.transports.websocket.messages import SocketMessages
from heartwire.types import Channel, Position, Publication

__all__ = ["POLL", "POLL_MULTI", "SocketFormats", "VectorFormat", "chunked", "socket_formats", "sse_format"]


class SocketFormats:
    """The formats of one way that messages become payloads."""

    def __init__(self, messages: SocketMessages) -> None:
        self._messages = messages
        one, joined = messages.one, messages.joined
        join = None if joined is None else lambda frames, last: joined(frames)
        self.raw = _Format(lambda publication: one(publication.is_text, publication.data), join, None)
        encode = lambda publication: one(True, publication_json(publication))  # noqa: E731
        self.json = _Format(encode, join, self._start, self._ended)

    def of(self, follow: Follow) -> "_Format | VectorFormat":
        """The format that a request asks for."""
        if follow.is_multi:
            one, join = self._messages.one, self._messages.join
            return VectorFormat(follow, lambda *item: one(True, _with_since(*item)), join)
        return self.json if follow.json else self.raw

    def _start(self, position: Position, recovered: bool) -> Any:
        return self._messages.payload(True, joined_json(None, position, recovered=recovered))

    def _ended(self, end: Publication) -> Any:
        return self._messages.payload(True, end_json(end))


@cache
def socket_formats(messages: SocketMessages) -> SocketFormats:
    """The formats, one object for all connections."""
    return SocketFormats(messages)


class _Format:
    """`WireFormat` for links that follow one channel."""

    def __init__(
        self,
        encode: Callable[[Publication], Any],
        join: Callable[[list[Any], Publication], Any] | None,
        notice: Callable[[Position, bool], Any] | None,
        end: Callable[[Publication], Any] | None = None,
    ) -> None:
        self.encode = encode
        self.join = join
        self._notice = notice
        self._end = end

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> Any | None:
        """See `WireFormat.joined`. Raw messages have no room for it."""
        return None if self._notice is None else self._notice(position, recovered)

    def ended(self, end: Publication) -> Any | None:
        """See `WireFormat.ended`."""
        return None if self._end is None else self._end(end)


def _positioned(publication: Publication) -> tuple[Position, bytes]:
    """The beginning of every format of several channels; one function, so that they share its results."""
    return publication.position, publication_json(publication, with_channel=True)


class VectorFormat:
    """`WireFormat` of one link that follows several channels: each message carries the position in all of
    them.

    Args:
        item: makes a message of that position's token, JSON (``None``: only the position), and what it is
            besides a publication: a gap, or the end of a stream.
        join: makes messages a payload.
    """

    def __init__(
        self,
        follow: Follow,
        item: Callable[[str, bytes | None, bytes | None], Any],
        join: Callable[[list[Any]], Any],
    ) -> None:
        self.encode = _positioned
        self._vector = Vector(follow.starts)
        self._item = item
        self._join = join
        self._is_reported = False

    def __str__(self) -> str:
        return str(self._vector)

    def join(self, frames: list[tuple[Position, bytes]], last: Publication) -> Any:
        """See `WireFormat.join`."""
        items = []
        for at, data in frames:
            self._vector.positions[last.channel] = at
            items.append(self._item(str(self._vector), data, None))
        return self._join(items)

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> Any:
        """See `WireFormat.joined`. One message reports the positions, once they are all known."""
        self._vector.positions[channel] = position
        token = str(self._vector)
        if not recovered:
            return self._join([self._item(token, joined_json(channel, position, recovered=False), b"gap")])
        if self._is_reported or not self._vector.is_known:
            return self._join([])
        self._is_reported = True
        return self._join([self._item(token, None, None)])

    def ended(self, end: Publication) -> Any:
        """See `WireFormat.ended`."""
        self._vector.positions[end.channel] = end.position
        return self._join([self._item(str(self._vector), end_json(end, with_channel=True), b"end")])


def _with_since(token: str, data: bytes | None, event: bytes | None) -> bytes:
    return since_json(token) if data is None else b'%b,"since":"%b"}' % (data[:-1], token.encode())


def _with_id(token: str, data: bytes | None, event: bytes | None) -> bytes:
    return sse_event(token, None if data is None else SseEvent(event, data))


def _sse_raw(publication: Publication) -> SseEvent:
    if publication.is_text:
        return SseEvent(None, publication.data)
    return SseEvent(b"bytes", base64.b64encode(publication.data))


def _sse_wrapped(publication: Publication) -> SseEvent:
    return SseEvent(None, publication_json(publication))


def _sse_joined(position: Position, recovered: bool) -> SseEvent | None:
    return None if recovered else SseEvent(b"gap", joined_json(None, position, recovered=False))


def _sse_end(end: Publication) -> SseEvent:
    return SseEvent(b"end", end.data)


def sse_format(follow: Follow) -> SseFormat | VectorFormat:
    """The event stream format that a request asks for."""
    if follow.is_multi:
        return VectorFormat(follow, _with_id, b"".join)
    return _SSE_JSON if follow.json else _SSE_RAW


def chunked(format: SseFormat | VectorFormat) -> ChunkedFormat:
    """The same format for native streams: one object for all that share it."""
    return _CHUNKED.get(format) or ChunkedFormat(format)


_SSE_RAW: Final = SseFormat(_sse_raw, _sse_joined, _sse_end)
_SSE_JSON: Final = SseFormat(_sse_wrapped, _sse_joined, _sse_end)
_CHUNKED: Final[dict[WireFormat, ChunkedFormat]] = {
    format: ChunkedFormat(format) for format in (_SSE_RAW, _SSE_JSON)
}
POLL: Final = PollFormat(publication_json)
POLL_MULTI: Final = PollFormat(partial(publication_json, with_channel=True))
