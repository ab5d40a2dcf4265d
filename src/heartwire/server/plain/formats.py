"""The plain dialect's wire formats: what the dialect says, in the frames of a transport. One object each,
shared by all links.

Links that follow several channels have one of their own, because what they are told holds all their
positions; the publications in it are still encoded once for all of them.
"""

import base64
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from heartwire.dialects.plain.codec import joined_json, publication_json, since_json
from heartwire.dialects.plain.requests import Follow, Vector
from heartwire.transports.http.poll import PollFormat
from heartwire.transports.http.sse import SseEvent, SseFormat, sse_event
from heartwire.transports.websocket.messages import SocketMessages
from heartwire.types import Channel, Position, Publication

__all__ = ["POLL", "POLL_MULTI", "SocketFormats", "SseVectorFormat", "socket_formats", "sse_format"]


class SocketFormats:
    """The formats of one way that messages become payloads."""

    def __init__(self, messages: SocketMessages) -> None:
        self._messages = messages
        one, joined = messages.one, messages.joined
        join = None if joined is None else lambda frames, last: joined(frames)
        self.raw = _Format(lambda publication: one(publication.is_text, publication.data), join, None)
        self.json = _Format(lambda publication: one(True, publication_json(publication)), join, self._start)

    def of(self, follow: Follow) -> "_Format | _VectorFormat":
        """The format that a request asks for."""
        if follow.is_multi:
            return _VectorFormat(Vector(follow.starts), self._messages)
        return self.json if follow.json else self.raw

    def _start(self, position: Position, recovered: bool) -> Any:
        return self._messages.payload(True, joined_json(None, position, recovered=recovered))


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
        told: Callable[[Position, bool], Any] | None,
    ) -> None:
        self.encode = encode
        self.join = join
        self._told = told

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> Any | None:
        """See `WireFormat.joined`. Raw messages have no room for it."""
        return None if self._told is None else self._told(position, recovered)


def _positioned(publication: Publication) -> tuple[Position, bytes]:
    """What every format of several channels begins with; one function, so that they share what it made."""
    return publication.position, publication_json(publication, with_channel=True)


class _VectorFormat:
    """`WireFormat` of one WebSocket that follows several channels: each message has the ``since`` that
    resumes after it."""

    def __init__(self, vector: Vector, messages: SocketMessages) -> None:
        self.encode = _positioned
        self._vector = vector
        self._messages = messages
        self._is_told = False

    def join(self, frames: list[tuple[Position, bytes]], last: Publication) -> Any:
        """See `WireFormat.join`."""
        told = []
        for at, data in frames:
            self._vector.positions[last.channel] = at
            told.append(self._with_since(data))
        return self._messages.join(told)

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> Any:
        """See `WireFormat.joined`. Where all is well one message tells the positions, once they are all
        known."""
        self._vector.positions[channel] = position
        if not recovered:
            return self._messages.join([self._with_since(joined_json(channel, position, recovered=False))])
        told = (
            [self._messages.one(True, since_json(str(self._vector)))]
            if self._vector.is_known and not self._is_told
            else []
        )
        self._is_told |= bool(told)
        return self._messages.join(told)

    def _with_since(self, data: bytes) -> Any:
        return self._messages.one(True, b'%b,"since":"%b"}' % (data[:-1], str(self._vector).encode()))


class SseVectorFormat:
    """`WireFormat` of one event stream of several channels: each event's id is the position in all of
    them."""

    def __init__(self, follow: Follow) -> None:
        self.encode = _positioned
        self._vector = Vector(follow.starts)

    def __str__(self) -> str:
        return str(self._vector)

    def join(self, frames: list[tuple[Position, bytes]], last: Publication) -> bytes:
        """See `WireFormat.join`."""
        blocks = []
        for at, data in frames:
            self._vector.positions[last.channel] = at
            blocks.append(sse_event(str(self._vector), SseEvent(None, data)))
        return b"".join(blocks)

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> bytes:
        """See `WireFormat.joined`. Where all is well one block tells the positions, once they are all
        known."""
        self._vector.positions[channel] = position
        if not recovered:
            return sse_event(
                str(self._vector), SseEvent(b"gap", joined_json(channel, position, recovered=False))
            )
        return sse_event(str(self._vector), None) if self._vector.is_known else b""


def _sse_raw(publication: Publication) -> SseEvent:
    if publication.is_text:
        return SseEvent(None, publication.data)
    return SseEvent(b"bytes", base64.b64encode(publication.data))


def _sse_wrapped(publication: Publication) -> SseEvent:
    return SseEvent(None, publication_json(publication))


def _sse_joined(position: Position, recovered: bool) -> SseEvent | None:
    return None if recovered else SseEvent(b"gap", joined_json(None, position, recovered=False))


def sse_format(follow: Follow) -> SseFormat | SseVectorFormat:
    """The event stream format that a request asks for."""
    if follow.is_multi:
        return SseVectorFormat(follow)
    return _SSE_JSON if follow.json else _SSE_RAW


def _with_channel(publication: Publication) -> bytes:
    return publication_json(publication, with_channel=True)


_SSE_RAW: Final = SseFormat(_sse_raw, _sse_joined)
_SSE_JSON: Final = SseFormat(_sse_wrapped, _sse_joined)
POLL: Final = PollFormat(publication_json)
POLL_MULTI: Final = PollFormat(_with_channel)
