"""One Socket.IO client over its Engine.IO session: the namespaces that it is in, and acknowledgements.

In: messages, from the session below; what the program sends, from the server. Out: what is asked of the
program, to the `Port`; parcels, to the session below. Source: the protocol text (v5).

                 asks                 accepted
    (nothing) ─────────▶ CONNECTING ───────────▶ CONNECTED ──▶ (nothing)
                             │ refused
                             └─────────▶ (nothing)
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

from heartwire.dialects.socketio import packet as wire
from heartwire.dialects.socketio.engine_io import BadPacket, EngineSettings, Parcel
from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.dialects.socketio.packet import Decoder, HalfRead, Json, encode

__all__ = ["ClientSession", "NamespaceSocket", "OnAck", "Port"]

MAX_NAMESPACES: Final = 64
"""That one client may be in, or ask for."""

MAX_ACKS: Final = 1000
"""Answers that one client may owe in a namespace; over that the oldest is not waited for."""

OnAck = Callable[[list[Any]], Awaitable[None] | None]
"""Takes what a client answers. What it returns is awaited before the client's next packet."""


class NamespaceSocket:
    """One client in one namespace.

    Attributes:
        sid: its public name; also a room of its own.
        client: the client's session.
        is_connected: whether its CONNECT is answered, and it has not left.
        context: belongs to the port.
    """

    __slots__ = ("_acks", "_last_id", "client", "context", "is_connected", "namespace", "sid")

    def __init__(self, client: "ClientSession", namespace: str, sid: str) -> None:
        self.client = client
        self.namespace = namespace
        self.sid = sid
        self.is_connected = False
        self.context: Any = None
        self._acks: dict[int, OnAck] | None = None
        self._last_id = 0

    def expect(self, on_ack: OnAck) -> int:
        """Draw an id for an event, and have its answer handed to ``on_ack``, once."""
        self._last_id += 1
        if self._acks is None:
            self._acks = {}
        self._acks[self._last_id] = on_ack
        if len(self._acks) > MAX_ACKS:
            del self._acks[next(iter(self._acks))]
        return self._last_id

    def answered(self, id: int, arguments: list[Any]) -> Awaitable[None] | None:
        """A client answers; unknown ids are ignored."""
        on_ack = self._acks.pop(id, None) if self._acks is not None else None
        return on_ack(arguments) if on_ack is not None else None

    @property
    def awaited(self) -> tuple[int, dict[int, OnAck]]:
        """The last id that was drawn, and who waits for the answers that have not come."""
        return self._last_id, self._acks or {}

    def await_again(self, last_id: int, acks: dict[int, OnAck]) -> None:
        """Go on with what was `awaited` elsewhere."""
        self._last_id, self._acks = last_id, acks

    def send(self, kind: int, data: Any, id: int | None = None) -> None:
        """Send a packet of its namespace."""
        self.client.send(encode(kind, self.namespace, id, data, self.client.port.json))


class Port(Protocol):
    """The server: what the program says to a client's packets."""

    json: Json
    settings: EngineSettings
    max_attachments: int

    def knows(self, namespace: str) -> bool:
        """Whether there is such a namespace."""

    def connect(self, client: "ClientSession", namespace: str, auth: Any) -> Awaitable[None] | None:
        """A client asks to join; `ClientSession.accept` or `refuse` is to follow. Returns what to await
        before its next packet."""

    def event(self, socket: NamespaceSocket, arguments: list[Any], id: int | None) -> Awaitable[None] | None:
        """An event came in; with an id its handler's result is to be sent by `NamespaceSocket.send`."""

    def left(self, socket: NamespaceSocket, reason: str) -> None:
        """A client is not in a namespace any more. Called once for each that was accepted."""


class ClientSession:
    """See the module. The `Handler` of its Engine.IO session.

    Attributes:
        sockets: the namespaces it is in.
        asking: those it has asked for.
        has_asked: whether it has asked for any, ever.
        running, waiter, connection: belong to the port.
    """

    __slots__ = (
        "_decoder",
        "asking",
        "connection",
        "engine",
        "has_asked",
        "port",
        "running",
        "sockets",
        "waiter",
    )

    def __init__(self, engine: EngineSession, port: Port) -> None:
        self.engine = engine
        self.connection: Any = None
        self.port = port
        self.sockets: dict[str, NamespaceSocket] = {}
        self.asking: frozenset[str] = frozenset()
        self.has_asked = False
        self.running = 0
        self.waiter: Any = None
        self._decoder = Decoder(port.json, max_attachments=port.max_attachments)

    # -- from below: see `Handler` ---------------------------------------------------------------------------

    def message(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """See `Handler.message`."""
        packet = self._decoder.feed(is_text, data)
        if packet is None:
            return None
        kind, namespace, id, content = packet
        if kind == wire.CONNECT:
            return self._ask(namespace, content)
        socket = self.sockets.get(namespace)
        if socket is None:
            if kind == wire.DISCONNECT and (self.sockets or self.asking):
                return None
            raise BadPacket(f"a packet for {namespace[:64]!r} came before its CONNECT was answered")
        if kind == wire.EVENT:
            return self.port.event(socket, content, id)
        if kind == wire.ACK:
            assert id is not None
            return socket.answered(id, content)
        self.leave(socket, "client namespace disconnect")
        return None

    def closed(self, reason: str) -> None:
        """See `Handler.closed`."""
        for socket in list(self.sockets.values()):
            self.leave(socket, reason)

    # -- from the server -------------------------------------------------------------------------------------

    def accept(self, socket: NamespaceSocket, answer: dict[str, Any]) -> None:
        """Answer a CONNECT: the client is in the namespace."""
        self.asking -= {socket.namespace}
        self.sockets[socket.namespace] = socket
        socket.is_connected = True
        socket.send(wire.CONNECT, answer)

    def refuse(self, namespace: str, error: Any) -> None:
        """Refuse a CONNECT; the connection lives on."""
        self.asking -= {namespace}
        self.send(encode(wire.CONNECT_ERROR, namespace, None, error, self.port.json))

    def leave(self, socket: NamespaceSocket, reason: str) -> None:
        """A client leaves a namespace. Idempotent."""
        if socket.is_connected:
            socket.is_connected = False
            del self.sockets[socket.namespace]
            self.port.left(socket, reason)

    @property
    def half(self) -> HalfRead:
        """What is read of a packet. See `Decoder.half`."""
        return self._decoder.half

    def hand_over(self) -> list[NamespaceSocket]:
        """Another node goes on with it: returns the namespaces it was in. `Port.left` is not called."""
        sockets = list(self.sockets.values())
        self.sockets.clear()
        for socket in sockets:
            socket.is_connected = False
        return sockets

    def take_over(self, sockets: Iterable[NamespaceSocket], half: HalfRead) -> None:
        """Go on in namespaces that were joined at another node, which has read a part of a packet."""
        self.has_asked = True
        self._decoder.half = half
        for socket in sockets:
            self.sockets[socket.namespace] = socket
            socket.is_connected = True

    def dismiss(self) -> None:
        """Have the client leave all its namespaces: it will not come back by itself."""
        for socket in list(self.sockets.values()):
            socket.send(wire.DISCONNECT, None)
            self.leave(socket, "server namespace disconnect")

    def send(self, parcel: Parcel) -> None:
        """Send messages behind all that was sent."""
        self.engine.send(parcel)

    def _ask(self, namespace: str, auth: Any) -> Awaitable[None] | None:
        if namespace in self.sockets or namespace in self.asking:
            raise BadPacket(f"a second CONNECT for {namespace[:64]!r}")
        if not self.port.knows(namespace):
            self.refuse(namespace, {"message": "Invalid namespace"})
            return None
        if len(self.sockets) + len(self.asking) >= MAX_NAMESPACES:
            self.refuse(namespace, {"message": f"a client may be in {MAX_NAMESPACES} namespaces"})
            return None
        self.asking |= {namespace}
        self.has_asked = True
        return self.port.connect(self, namespace, auth)
