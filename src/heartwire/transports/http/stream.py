"""An HTTP answer that does not end: event streams and line streams.

In: payloads, from core. Out: body chunks, by the ASGI ``send``, or by a `NativeStream` that takes the
connection over where it can. The dialects' ``streams`` modules make it and call `HttpStream.serve`.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.types import Send

from heartwire.core.switchboard import Switchboard
from heartwire.transports.asgi_link import AsgiLink, attend
from heartwire.transports.http.native_stream import TAKE_OVER, TRANSPORT, NativeStream, StreamHandler
from heartwire.transports.tcp import cut

__all__ = ["HttpStream"]

_CLOSE: Final = (b"connection", b"close")
"""On uvicorn the connection ends with the stream."""

_PIECE_BYTES: Final = 16 * 1024

Header: TypeAlias = tuple[bytes, bytes]


class HttpStream(AsgiLink):
    """A `StreamLink` whose payloads are the body of one answer."""

    is_native = False

    def __init__(self, switchboard: Switchboard, request: Request, send: Send, *, serial: int) -> None:
        super().__init__(switchboard, serial=serial, send=self._send_body, size=len, finish=self._finish)
        self._request = request
        self._asgi_send = send
        self.transport: asyncio.Transport | None = request.scope.get("extensions", {}).get(TRANSPORT)
        self._handler: StreamHandler | None = None
        self._finished = False

    async def serve(self, handler: StreamHandler, headers: Sequence[Header], first: bytes) -> None:
        """Send the head and ``first``, open the handler, and serve until the end, or until a `NativeStream`
        has taken over."""
        self._handler = handler
        native = None
        try:
            native = await self._begin(handler, headers, first)
            handler.opened_on(native or self)
            if native is None:
                await attend(self, self._watch_peer())
        finally:
            if native is None:
                handler.lost()

    async def _begin(
        self, handler: StreamHandler, headers: Sequence[Header], first: bytes
    ) -> NativeStream | None:
        others = [] if self.transport is None else [_CLOSE]
        native = NativeStream(self._switchboard, handler, serial=self.serial, member=self.member)
        body = {"type": "http.response.body", "body": first, "more_body": True, TAKE_OVER: native}
        with contextlib.suppress(OSError):  # `_watch_peer` reports a client that is gone
            await self._asgi_send(
                {"type": "http.response.start", "status": 200, "headers": [*headers, *others]}
            )
            await self._asgi_send(body)
        if native.closed:
            return None
        if self._close is not None:
            native.close(*self._close)
        return native

    def send(self, body: bytes) -> None:
        """Send bytes of the body."""
        self.write(body)

    def give_up(self) -> None:
        """See `Watched.give_up`. Without the cut the kernel would retry for a quarter of an hour."""
        super().give_up()
        if self.transport is not None and not self._finished:
            cut(self.transport)

    @property
    def backlog_bytes(self) -> int:
        """See `AsgiLink.backlog_bytes`; of what is being sent, also how much the server still holds, so that
        a peer that takes it slowly is seen to take it."""
        held = self.transport.get_write_buffer_size() if self.transport is not None else 0
        return self._queued_bytes + held

    async def _watch_peer(self) -> None:
        """Return when the client has gone."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._finished = True

    def _joined(self, payloads: list[bytes]) -> list[bytes]:
        """What one turn of the event loop wrote is one piece; much is several, so that a slow client is seen
        to take it."""
        pieces: list[bytes] = []
        piece: list[bytes] = []
        size = 0
        for payload in payloads:
            piece.append(payload)
            size += len(payload)
            if size >= _PIECE_BYTES:
                pieces.append(b"".join(piece))
                piece, size = [], 0
        return [*pieces, b"".join(piece)] if piece else pieces

    async def _send_body(self, payload: bytes) -> None:
        await self._asgi_send({"type": "http.response.body", "body": payload, "more_body": True})

    async def _finish(self, code: int, reason: str) -> None:
        body = b"" if self._handler is None else self._handler.last_words(code, reason)
        if body is None:
            return  # `attend` breaks off
        self._finished = True
        await self._asgi_send({"type": "http.response.body", "body": body, "more_body": False})
