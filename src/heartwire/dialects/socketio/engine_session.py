"""One Engine.IO session: a pipe of messages over polls, a WebSocket, or polls that become one.

Its states are in `engine_states`.

In: requests and WebSocket messages, from the server's doors; parcels, from the layer above; the wheel's calls
(`Watched`). Out: answers to polls, parcels to the socket, messages and the end to the `Handler`.
"""

from collections.abc import Awaitable, Iterable
from functools import partial
from typing import Final

from heartwire.dialects.socketio.engine_io import (
    BAD_REQUEST,
    CLOSE,
    MESSAGE,
    NOOP,
    PING,
    PONG,
    PROBE,
    PROBED,
    SEPARATOR,
    UNKNOWN_SID,
    UPGRADE,
    BadPacket,
    Packet,
    Parcel,
    error_body,
    open_packet,
    packet_of,
    packets_of,
)
from heartwire.dialects.socketio.engine_ports import Handler, Reply, Services, Socket, Timer
from heartwire.dialects.socketio.engine_states import (
    CLOSED,
    CLOSING,
    OPENING,
    POLLING,
    TRANSITIONS,
    UPGRADING,
    WEBSOCKET,
)
from heartwire.dialects.socketio.waiting import MAX_WAITING_BYTES, Waiting

__all__ = ["EngineSession"]


NOOP_S: Final = 0.1
"""How long a poll is held while a WebSocket is about to take over: its client waits for the answer."""

CLOSING_S: Final = 30
"""How long a session waits for the poll that tells its end."""

OK: Final = b"ok"


_PINGED: Final = Parcel([(True, PING)])
_PROBED: Final = Parcel([(True, PROBED)])
_NOTHING: Final = Parcel([(True, NOOP)])
_CLOSED: Final = Parcel([(True, CLOSE)])


class EngineSession:
    """See the module.

    Args:
        sid: its secret.

    Attributes:
        handler: is to be set before anything comes in.
        heard, asked: see `Watched`.
        socket: the WebSocket that is its transport.
        max_packets: that its client takes in the answer to one poll; 0: any number.

    Promises: what is sent arrives in order, each once, or the session ends; a poll's answer that is lost ends
    it too, because its client is not known to be there.
    """

    __slots__ = (
        "_poll",
        "_posts",
        "_probe",
        "_services",
        "_timer",
        "_waiting",
        "_wakes",
        "asked",
        "handler",
        "heard",
        "is_probed",
        "max_packets",
        "sid",
        "socket",
        "state",
    )

    handler: Handler

    def __init__(self, sid: str, services: Services) -> None:
        self.sid = sid
        self.state = OPENING
        self.heard = self.asked = False
        self.socket: Socket | None = None
        self.is_probed = False
        self.max_packets = 0
        self._services = services
        self._poll: Reply | None = None
        self._posts = False
        self._probe: Socket | None = None
        self._timer: Timer | None = None
        self._waiting = Waiting()
        self._wakes = False

    def on(self, event: str) -> None:
        """Move along the table. Raises ``KeyError`` for an event that cannot happen in this state."""
        self.state = TRANSITIONS[self.state, event]

    @property
    def transport(self) -> str:
        """The transport that it is on."""
        return "websocket" if self.state is WEBSOCKET else "polling"

    @property
    def is_over(self) -> bool:
        """Whether `Handler.closed` was called."""
        return self.state is CLOSING or self.state is CLOSED

    # -- polls -----------------------------------------------------------------------------------------------

    def open_polling(self) -> bytes:
        """Begin with a poll, and return its answer."""
        self.on("polls")
        return open_packet(self.sid, self._services.settings, is_polling=True)

    def poll(self, reply: Reply) -> None:
        """A poll: answered now, or when there is something to say."""
        self.heard = True
        if self.state is CLOSING:
            reply.answer(200, self._taken())
            self._lost()
        elif self.state is not POLLING and self.state is not UPGRADING:
            code = BAD_REQUEST if self.state is WEBSOCKET else UNKNOWN_SID
            reply.answer(400, error_body(code))
        elif self._poll is not None:
            held, self._poll = self._poll, None
            held.answer(200, CLOSE)
            reply.answer(400, error_body(BAD_REQUEST, "another poll of this session is held"))
            self.lose("transport error")
        elif self._waiting.parcels:
            reply.answer(200, self._taken())
        else:
            self._poll = reply
            if self.state is UPGRADING:
                self._services.later(NOOP_S, self._let_go)

    def poll_lost(self, reply: Reply) -> None:
        """The client of a held poll is gone."""
        if self._poll is reply:
            self._poll = None
            self.lose("transport close")

    def release(self, reply: Reply) -> None:
        """Answer a held poll with nothing, because its door closes: its client polls again."""
        if self._poll is reply:
            self._poll = None
            reply.answer(200, NOOP)

    def _taken(self) -> bytes:
        """The payload of what waits, as much as its client takes at once."""
        return SEPARATOR.join([parcel.polled for parcel in self._waiting.take(self.max_packets)])

    def _answer_poll(self) -> None:
        self._wakes = False
        if self._poll is not None and self._waiting.parcels:
            held, self._poll = self._poll, None
            held.answer(200, self._taken())

    def _let_go(self) -> None:
        """Answer the poll of a client that wants to leave polling."""
        if self.state is UPGRADING and self._poll is not None:
            held, self._poll = self._poll, None
            held.answer(200, NOOP)

    # -- posts -----------------------------------------------------------------------------------------------

    def begin_post(self) -> bool:
        """A POST is about to be read. False where it is refused, and the session ended: one at a time."""
        self.heard = True
        if self._posts:
            self.lose("transport error")
            return False
        self._posts = True
        return True

    def end_post(self) -> None:
        """A POST was read and answered, or its client is gone."""
        self._posts = False

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Take the body of a POST; returns status and body of the answer."""
        if self.state is WEBSOCKET:
            return 400, error_body(BAD_REQUEST)
        if self.state is not POLLING and self.state is not UPGRADING:
            return 400, error_body(UNKNOWN_SID)
        try:
            for packet in packets_of(body):
                wait = self._take(packet)
                if wait is not None:
                    await wait
        except BadPacket as error:
            self.lose("parse error")
            return 400, error_body(BAD_REQUEST, str(error))
        return 200, OK

    # -- WebSockets ------------------------------------------------------------------------------------------

    def open_socket(self, socket: Socket) -> None:
        """Begin with a WebSocket."""
        self.on("opens_socket")
        self.socket = socket
        opened = open_packet(self.sid, self._services.settings, is_polling=False)
        socket.send(Parcel([(True, opened)]))

    def probe(self, socket: Socket) -> bool:
        """A WebSocket wants to take over. False where it may not: it is to be closed."""
        if self.state is not POLLING or not self._services.settings.allow_upgrades:
            return False
        self.on("probed")
        self._probe = socket
        self.is_probed = False
        self._timer = self._services.later(self._services.settings.upgrade_timeout_s, self._end_probe)
        return True

    def socket_message(self, socket: Socket, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """A message came in by a WebSocket. Returns what to await before the next, if anything."""
        self.heard = True
        if socket is self._probe:
            self._probed(socket, data if is_text else b"")
            return None
        if socket is not self.socket:
            return None
        try:
            if data[:1] == MESSAGE and is_text and self.state is WEBSOCKET:  # most often
                return self.handler.message(True, data[1:])
            return self._take(packet_of(is_text, data))
        except BadPacket as error:
            self.lose("parse error", str(error))
            return None

    def socket_lost(self, socket: Socket) -> None:
        """A WebSocket is gone. Idempotent."""
        if socket is self._probe:
            self._end_probe()
        elif socket is self.socket:
            self.lose("transport close")

    def _probed(self, socket: Socket, data: bytes) -> None:
        if data == PROBE and not self.is_probed:
            self.is_probed = True
            socket.send(_PROBED)
            if self._poll is not None:
                self._services.later(NOOP_S, self._let_go)
        elif data == UPGRADE and self.is_probed:
            self._upgrade(socket)
        else:
            self._end_probe()

    def _upgrade(self, socket: Socket) -> None:
        self.on("upgraded")
        self._cancel_timer()
        self._probe, self.socket = None, socket
        held, self._poll = self._poll, None
        if held is not None:
            held.answer(400, error_body(BAD_REQUEST))
        for parcel in self._waiting.take():
            socket.send(parcel)

    # -- moves -----------------------------------------------------------------------------------------------

    def hand_over(self) -> list[Parcel] | None:
        """End it here, where the node that its probe came to goes on with it. `Handler.closed` is not called.

        Returns what waits; ``None``: it cannot move now, because it has no probe that was answered, or a POST
        is being read.
        """
        if self.state is not UPGRADING or not self.is_probed or self._posts:
            return None
        self.on("moved")
        self._cancel_timer()
        self._probe = None
        held, self._poll = self._poll, None
        if held is not None:
            held.answer(400, error_body(BAD_REQUEST))
        waiting = self._waiting.take()
        self._services.ended(self.sid)
        return waiting

    def take_over(self, socket: Socket, waiting: Iterable[Parcel]) -> None:
        """Go on with a session of another node, on a WebSocket."""
        self.on("opens_socket")
        self.socket = socket
        for parcel in waiting:
            socket.send(parcel)

    def _end_probe(self) -> None:
        """The WebSocket does not take over: polling goes on."""
        self._cancel_timer()
        probe, self._probe = self._probe, None
        if probe is not None:
            if self.state is UPGRADING:
                self.on("probe_lost")
            probe.close("transport upgrade failed")

    # -- what comes in ---------------------------------------------------------------------------------------

    def _take(self, packet: Packet) -> Awaitable[None] | None:
        kind, data, is_text = packet
        if self.is_over:
            return None
        if kind == MESSAGE:
            return self.handler.message(is_text, data)
        if kind == CLOSE:
            self._closed_by_client()
        elif kind == PONG:
            self._services.beats(self.sid, is_answered=True)
        elif kind == PING:
            raise BadPacket("a client of this version does not ping")
        return None  # what else there is says nothing here

    def _closed_by_client(self) -> None:
        held, self._poll = self._poll, None
        if held is not None:
            held.answer(200, NOOP)
        if held is not None or self.state is WEBSOCKET:
            self.lose("transport close")
            return
        self._waiting.take()
        self._waiting.add(_NOTHING)
        self._close("transport close")

    # -- what goes out ---------------------------------------------------------------------------------------

    def send(self, parcel: Parcel) -> None:
        """Send messages behind all that was sent. Without effect once closed."""
        if self.socket is not None:
            self.socket.send(parcel)
            return
        if self.is_over:
            return
        if not self._waiting.add(parcel):
            self.lose("transport error", f"more than {MAX_WAITING_BYTES} bytes wait for a poll")
        elif self._poll is not None and not self._wakes:
            self._wakes = True
            self._services.soon(self._answer_poll)

    @property
    def paused(self) -> bool:
        """Whether it is full: publications have to wait."""
        if self.socket is not None:
            return self.socket.paused
        return self._waiting.is_full

    async def drained(self) -> None:
        """Wait while it is full and not over."""
        if self.socket is not None:
            await self.socket.drained()
        else:
            await self._waiting.emptied(self._services.waiter)

    # -- the wheel: see `Watched` ----------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it needs no pings any more."""
        return self.is_over

    @property
    def takes(self) -> bool:
        """See `Watched.takes`."""
        return self.socket is not None and self.socket.takes

    def ping(self) -> None:
        """See `Watched.ping`. Clients count on a ping each interval, whatever else they get."""
        if self.socket is not None and self.socket.paused:
            self.socket.look()
        else:
            self.send(_PINGED)
            self._services.beats(self.sid, is_answered=False)

    def give_up(self) -> None:
        """See `Watched.give_up`."""
        self.lose("ping timeout")

    # -- the end ---------------------------------------------------------------------------------------------

    def close(self, reason: str) -> None:
        """End it, behind what was sent. Idempotent."""
        if self.is_over:
            return
        if self.state is WEBSOCKET or self.state is OPENING:
            self.lose(reason)
            return
        held, self._poll = self._poll, None
        self._waiting.add(_CLOSED)
        if held is None:
            self._close(reason)
            return
        held.answer(200, self._taken())
        self.lose(reason)

    def lose(self, reason: str, why: str = "") -> None:
        """End it at once: its client is gone, or broke the protocol. Idempotent."""
        if self.state is CLOSED:
            return
        was_over = self.is_over
        self._lost(why or reason)
        if not was_over:
            self.handler.closed(reason)

    def _close(self, reason: str) -> None:
        """Wait for the poll that tells the client."""
        self._end_probe()
        self.on("closed")
        self._timer = self._services.later(CLOSING_S, partial(self._lost, ""))
        self.handler.closed(reason)

    def _lost(self, why: str = "") -> None:
        if self.state is CLOSED:
            return
        self.on("lost")
        self._cancel_timer()
        socket, self.socket = self.socket, None
        probe, self._probe = self._probe, None
        held, self._poll = self._poll, None
        self._waiting.take()
        for one in (socket, probe):
            if one is not None:
                one.close(why)
        if held is not None:
            held.answer(400, error_body(UNKNOWN_SID))
        self._services.ended(self.sid)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
