"""An HTTP answer that does not end: the base of event streams and line streams.

In: payloads, from core. Out: body chunks, by the ASGI ``send``. The dialects' ``streams`` modules make it and
run it with `attend`.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.types import Send

from heartwire.core.switchboard import Switchboard
from heartwire.transports.asgi_link import AsgiLink
from heartwire.transports.tcp import cut

__all__ = ["HttpStream"]


class HttpStream(AsgiLink):
    """A `Link` whose payloads are the body of one answer."""

    def __init__(self, switchboard: Switchboard, request: Request, send: Send, *, serial: int) -> None:
        super().__init__(switchboard, serial=serial, send=self._send_body, size=len, finish=self._finish)
        self._request = request
        self._asgi_send = send
        self._transport: Any = request.scope.get("extensions", {}).get("heartwire.transport")
        self._finished = False

    async def begin(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the head; `watch_peer` reports a client that is gone (``OSError``)."""
        with contextlib.suppress(OSError):
            await self._asgi_send({"type": "http.response.start", "status": 200, "headers": list(headers)})

    def give_up(self) -> None:
        """See `Watched.give_up`. Without the cut the kernel would retry for a quarter of an hour."""
        super().give_up()
        if self._transport is not None and not self._finished:
            cut(self._transport)

    @property
    def backlog_bytes(self) -> int:
        """See `AsgiLink.backlog_bytes`; of what is being sent, also how much the server still holds, so that
        a peer that takes it slowly is seen to take it."""
        held: int = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._queued_bytes + held

    async def watch_peer(self) -> None:
        """Return when the client has gone."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._finished = True

    def last_words(self, code: int, reason: str) -> bytes:
        """The end of a body that the server ends."""
        return b""

    async def _send_body(self, payload: bytes) -> None:
        await self._asgi_send({"type": "http.response.body", "body": payload, "more_body": True})

    async def _finish(self, code: int, reason: str) -> None:
        self._finished = True
        body = self.last_words(code, reason)
        await self._asgi_send({"type": "http.response.body", "body": body, "more_body": False})
