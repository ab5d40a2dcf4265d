"""WebSockets of Engine.IO, on either door.

In: handshakes and messages. Out: what a session sends, as payloads of the link.
"""

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, Final

from heartwire.codes import close_code
from heartwire.core.link import Sink
from heartwire.dialects.socketio.engine_io import BAD_REQUEST, Ask, Fault, Parcel, check_version, problem_of
from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.errors import Refused
from heartwire.hub.links import WatchedLink
from heartwire.messages import message_too_large
from heartwire.server.addresses import Handshake, Opening
from heartwire.server.socketio.environ import KeptRequest
from heartwire.server.socketio.probes import ProbeHere
from heartwire.server.socketio.server import SocketServer
from heartwire.transports.websocket.messages import SocketMessages

__all__ = ["EngineSocket", "open_socket"]

_NORMAL: Final = 1000
"""RFC 6455 7.4.1: the purpose of the connection is fulfilled."""


def open_socket(server: SocketServer, handshake: Handshake) -> Opening:
    """Answer a handshake. Raises `Refused`: it is accepted, and closed with the reason."""
    ask = Ask.of(handshake.query, "GET", is_upgrade=True)
    try:
        server.cors.check(handshake.header("origin"), handshake.header("host") or "")
        problem = problem_of(ask, server.settings)
        if problem is not None:
            raise Fault(problem)
        if ask.transport != "websocket":
            raise Fault(BAD_REQUEST)
        if ask.sid and ask.sid not in server.sessions:
            server.elsewhere.owner_of(ask.sid)
        if not ask.sid:
            check_version(ask)
    except Fault as fault:
        raise Refused("bad_request", str(fault)) from None
    make = partial(EngineSocket, server, handshake, ask.sid)
    return Opening(None, make, server.settings.max_payload_bytes)


class EngineSocket:
    """One WebSocket: the `OpenHandler` of its link, and the `Socket` of its session."""

    __slots__ = ("_link", "_server", "_session", "_sid", "messages")

    def __init__(
        self,
        server: SocketServer,
        handshake: Handshake,
        sid: str,
        link: WatchedLink,
        messages: SocketMessages,
    ) -> None:
        self._server = server
        self._sid = sid
        self._link = link
        self.messages = messages
        self._session: EngineSession | ProbeHere | None = None
        if not sid:
            path = server.node.options.socketio_path + "/"
            kept = KeptRequest.of_handshake(handshake, path)
            self._session = server.open(handshake.address, kept)

    # -- for the door: see `OpenHandler` ---------------------------------------------------------------------

    def opened(self) -> None:
        """See `OpenHandler.opened`."""
        if isinstance(self._session, EngineSession):
            self._session.open_socket(self)
            return
        connection = self._server.sessions.get(self._sid)
        if connection is None:
            self._probe_elsewhere()
        elif connection.engine.probe(self):
            self._session = connection.engine
        else:
            self.close("this session has a WebSocket, or is over")

    def _probe_elsewhere(self) -> None:
        try:
            self._session = self._server.moves.probe(self, self._sid)
        except Fault as fault:
            self.close(str(fault))

    def serve(self, session: EngineSession) -> None:
        """See `OwnSocket.serve`."""
        self._session = session

    def receive(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """See `OpenHandler.receive`."""
        if self._session is None:
            return None
        limit = self._server.settings.max_payload_bytes
        if len(data) > limit:  # over ASGI; the native door does not let it in
            self._link.close(close_code("message_too_large"), str(message_too_large(len(data), limit)))
            return None
        return self._session.socket_message(self, is_text, data)

    def lost(self) -> None:
        """See `OpenHandler.lost`."""
        if self._session is not None:
            self._session.socket_lost(self)

    # -- for the session: see `Socket` -----------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """See `Socket.paused`. A link that closes while it is full has nobody to wait for."""
        return self._link.paused and not self._link.closed

    @property
    def takes(self) -> bool:
        """See `Socket.takes`."""
        return self._link.takes

    @property
    def sink(self) -> Sink:
        """Where payloads go while it is open and not full: see `Link.sink`."""
        return self._link.sink

    def payload(self, parcels: Sequence[Parcel]) -> Any:
        """Parcels as one write of the link's."""
        one, join = self.messages.one, self.messages.join
        return join([one(*message) for parcel in parcels for message in parcel.messages])

    def send(self, parcel: Parcel) -> None:
        """See `Socket.send`."""
        payload = parcel.made.get(self.messages)
        if payload is None:
            payload = parcel.made[self.messages] = self.payload([parcel])
        try:
            self._link.write(payload)
        except RuntimeError:  # uvloop's word for a socket that broke a moment ago
            return

    def look(self) -> None:
        """See `Socket.look`."""
        self._link.ping()

    def close(self, reason: str) -> None:
        """See `Socket.close`."""
        if reason == "ping timeout":
            self._link.give_up()
        else:
            self._link.close(_NORMAL if reason != "slow" else close_code("slow"), reason)

    def drained(self) -> Awaitable[None]:
        """See `Socket.drained`."""
        return self._link.drained()
