"""A WebSocket at one node, and the session that it is to take over at another: both ends of the probe.

In: the WebSocket's messages; the owner's decisions. Out: questions to the owner, what the client is answered.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from heartwire.dialects.socketio.engine_io import PROBE, PROBED, UPGRADE, Parcel
from heartwire.dialects.socketio.engine_ports import Socket
from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.errors import Refused
from heartwire.server.socketio.connection import EngineConnection
from heartwire.server.socketio.nodes import SessionsElsewhere

__all__ = ["OwnSocket", "ProbeElsewhere", "ProbeHere"]

_PROBED: Final = Parcel([(True, PROBED)])


class OwnSocket(Socket, Protocol):
    """The WebSocket, at the node that it came to."""

    def serve(self, session: EngineSession) -> None:
        """It is the transport of this session from now on."""


class ProbeElsewhere(Socket):
    """The `Socket` of a session whose WebSocket came to another node.

    Args:
        asker, number: that node, and its question.
        ended: called when the session lets it go.
    """

    paused = takes = False

    def __init__(
        self,
        elsewhere: SessionsElsewhere,
        asker: str,
        number: int,
        connection: EngineConnection,
        ended: Callable[[], object],
    ) -> None:
        self.connection = connection
        self._elsewhere = elsewhere
        self._asker, self._number = asker, number
        self._ended = ended

    def send(self, parcel: Parcel) -> None:
        """See `Socket.send`. The one thing that is sent to a probe is sent by its node."""

    def look(self) -> None:
        """See `Socket.look`."""

    def close(self, reason: str) -> None:
        """See `Socket.close`."""
        self._ended()
        self._elsewhere.tell(self._asker, "socketio-unprobed", (self._number, reason))

    async def drained(self) -> None:
        """See `Socket.drained`."""


class ProbeHere:
    """A WebSocket that came here, and is to take over a session of another node.

    Args:
        fetch: gets the session; ``None``: it cannot be had.
        asking: has this by its number while it is neither answered nor over.

    Attributes:
        number: the owner's name for it; 0: not known yet.
    """

    def __init__(
        self,
        elsewhere: SessionsElsewhere,
        socket: OwnSocket,
        owner: str,
        sid: str,
        fetch: "Callable[[ProbeHere], Awaitable[EngineSession | None]]",
        asking: "dict[int, ProbeHere]",
    ) -> None:
        self.socket, self.owner, self.sid, self.number = socket, owner, sid, 0
        self._elsewhere = elsewhere
        self._fetch = fetch
        self._asking = asking
        self._is_answered = self._is_over = False
        self._beginning = elsewhere.run(self._begin())

    def socket_message(self, socket: Socket, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """See `EngineSession.socket_message`."""
        return None if self._is_over else self._take(data if is_text else b"")

    def socket_lost(self, socket: Socket) -> None:
        """See `EngineSession.socket_lost`."""
        if not self._is_over:
            self._is_over = True
            self._elsewhere.run(self._over())

    def end(self, reason: str) -> None:
        """Close the WebSocket: polling goes on. Without effect once it has its session. Idempotent."""
        if not self._is_over:
            self._is_over = True
            self._elsewhere.run(self._close(reason))

    async def ask(self, kind: str) -> Any:
        """Ask the owner; ``None``: it is gone, or refuses."""
        more = () if kind == "socketio-probe" else (self.number,)
        try:
            return await self._elsewhere.ask(self.owner, self.sid, kind, *more).answer
        except Refused:  # there are too many questions
            return None

    async def _begin(self) -> None:
        self.number = await self.ask("socketio-probe") or 0
        if not self.number:
            self.end("this session has a WebSocket, or is over")
        elif self._is_over:
            await self._over()
        else:
            self._asking[self.number] = self

    async def _take(self, data: bytes) -> None:
        await asyncio.shield(self._beginning)
        if self._is_over:
            return
        if data == PROBE and not self._is_answered:
            self._is_answered = bool(await self.ask("socketio-probed"))
            if self._is_answered:
                self.socket.send(_PROBED)
        elif data == UPGRADE and self._is_answered:
            session = await self._fetch(self)
            if session is not None:
                self._serve(session)
                return
            self._is_answered = False
        else:
            self._is_answered = False
        if not self._is_answered:
            self.end("transport upgrade failed")

    def _serve(self, session: EngineSession) -> None:
        was_over, self._is_over = self._is_over, True
        self._asking.pop(self.number, None)
        self.socket.serve(session)
        if was_over:
            session.socket_lost(self.socket)

    async def _close(self, reason: str) -> None:
        await self._over()  # so that the client may try again at once
        self.socket.close(reason)

    async def _over(self) -> None:
        self._asking.pop(self.number, None)
        if self.number:
            await self._elsewhere.told(self.owner, "socketio-unprobe", (self._elsewhere.here, self.number))
