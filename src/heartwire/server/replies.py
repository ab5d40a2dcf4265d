"""Answers that follow a durable stream to its end, in a format.

In: a stream, by way of the switchboard; the end of the client. Out: the body of a response of the application
(`StreamReply`), or its pieces, for frameworks with responses of their own (`stream_pieces`). A reader has a
position in the stream and no queue, so one that stops reading costs nothing.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from heartwire.codes import close_code
from heartwire.core.subscription import Subscription
from heartwire.errors import HeartwireError, Refused
from heartwire.hub.identity import ANONYMOUS
from heartwire.hub.node import Node
from heartwire.server.plain.connections import StreamConnection
from heartwire.server.requests import address_of
from heartwire.server.responses import refusal
from heartwire.streams.formats import Format
from heartwire.transports.asgi_link import AsgiLink
from heartwire.transports.http.native_stream import ChunkedFormat, StreamLink
from heartwire.transports.http.sse import COMMENT
from heartwire.transports.http.stream import HttpStream
from heartwire.types import Channel, Member, Position, Publication

__all__ = ["StreamReply", "stream_pieces"]

log = logging.getLogger("heartwire")

_HEADERS: Final = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}


class StreamReply(Response):
    """The response that follows a stream from a position on. It breaks off where the stream has not ended, so
    that its client notices."""

    def __init__(self, node: Node, channel: Channel, start: Position, format: Format) -> None:
        self._node = node
        self._stream = channel, start, _wire_of(format)
        self.status_code = 200
        self.background = None
        self.media_type = format.media_type
        self.init_headers({**_HEADERS, **format.headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        node, request = self._node, Request(scope, receive)
        link = HttpStream(node.switchboard, request, send, serial=node.connections.next_serial())
        try:
            reader = _Reader(node, link, *self._stream, address_of(request))
        except Refused as error:
            await refusal(error)(scope, receive, send)
            return
        await link.serve(reader, self.raw_headers, reader.heartbeat())
        if self.background is not None:
            await self.background()


async def stream_pieces(
    node: Node, channel: Channel, start: Position, format: Format
) -> AsyncGenerator[bytes, None]:
    """The body of a `StreamReply`. Raises `HeartwireError` where that would break off."""
    given: asyncio.Queue[bytes | HeartwireError | None] = asyncio.Queue(1)

    async def finish(code: int, reason: str) -> None:
        await given.put(None if reader.is_whole else HeartwireError(f"stream {channel!r}: {reason}"))

    serial = node.connections.next_serial()
    link = _Pulled(node.switchboard, serial=serial, send=given.put, size=len, finish=finish)
    reader = _Reader(node, link, channel, start, _wire_of(format), "")
    sending = asyncio.ensure_future(link.run())
    try:
        reader.opened_on(link)
        while (piece := await given.get()) is not None:
            if isinstance(piece, HeartwireError):
                raise piece
            yield piece
    finally:
        link.give_up()
        sending.cancel()
        reader.lost()


class _Pulled(AsgiLink):
    """A `StreamLink` whose payloads somebody asks for, when it likes."""

    is_native = False
    transport: asyncio.Transport | None = None

    def send(self, body: bytes) -> None:
        """See `StreamLink.send`."""
        self.write(body)

    def ping(self) -> None:
        """See `Watched.ping`. Nobody knows a peer here."""
        self.heard = True


class _Reader(StreamConnection):
    """One reader: a `StreamHandler`, and the `ChannelListener` of its subscription.

    Attributes:
        is_whole: it has got the end of the stream.
    """

    dialect, transport = "format", "http"
    expires_with_identity = counts_for_user = False
    member = override = None

    def __init__(
        self, node: Node, link: StreamLink, channel: Channel, start: Position, wire: "_Wire", address: str
    ) -> None:
        node.refuse_when_draining()
        super().__init__(node, link, ANONYMOUS, address)
        self.is_whole = False
        self._channel, self._start, self._wire = channel, start, wire

    def opened_on(self, link: StreamLink) -> None:
        """See `StreamHandler.opened_on`."""
        self.link = link
        self._node.background.stream_liveness.watch(self, spread=1)
        payloads = self._wire.chunked if link.is_native else self._wire
        self._node.presence.follow(link, self._channel, payloads, self._start, listener=self)

    def lost(self) -> None:
        """See `StreamHandler.lost`."""
        self._node.connections.remove(self)
        self._node.presence.unfollow_all(self.link)

    def last_words(self, code: int, reason: str) -> bytes | None:
        """See `StreamHandler.last_words`."""
        return b"" if self.is_whole else None

    def heartbeat(self) -> bytes:
        """See `StreamConnection.heartbeat`."""
        return self._wire.heartbeat

    def live(self, subscription: Subscription) -> None:
        """See `ChannelListener.live`."""

    def hear(self, kind: Literal["join", "leave"], member: Member, made: dict[Any, Any]) -> None:
        """See `ChannelListener.hear`."""

    def gap(self, position: Position) -> None:
        """See `ChannelListener.gap`: the stream was deleted."""
        self.link.close(close_code("stream_gone"), "the stream was deleted")

    def ended(self, subscription: Subscription, end: Publication) -> None:
        """See `ChannelListener.ended`."""
        self.is_whole = True
        self.link.send(self._wire.last(end))
        self.link.close(close_code("stream_closed"), "the stream has ended")


class _Wire:
    """`WireFormat` of a `Format`, one object for all its readers."""

    def __init__(self, format: Format) -> None:
        self._format = format
        self.encode = self._encode
        self.chunked = ChunkedFormat(self)
        self.heartbeat = COMMENT if format.media_type.startswith("text/event-stream") else b""

    def _encode(self, publication: Publication) -> bytes:
        return self._made(publication, lambda: self._format.frame(publication))

    def last(self, end: Publication) -> bytes:
        """What a reader gets last."""
        why = msgspec.json.decode(end.data)
        return self._made(end, lambda: self._format.end(why["reason"], why.get("detail", "")))

    def _made(self, publication: Publication, make: Callable[[], bytes]) -> bytes:
        try:
            return make()
        except Exception:  # of somebody's format, and others must have the publication
            log.exception("stream %r: its format failed", publication.channel)
            return b""

    join: Final = None

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> None:
        """See `WireFormat.joined`."""

    def ended(self, end: Publication) -> None:
        """See `WireFormat.ended`. The reader tells it."""


_wire_of: Final[Callable[[Format], _Wire]] = lru_cache(maxsize=64)(_Wire)  # type: ignore[assignment]
