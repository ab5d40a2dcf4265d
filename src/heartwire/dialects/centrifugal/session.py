"""One connection: what may be said when, and who answers it.

              connect                       phases, and what moves them (`TRANSITIONS`); nothing else assigns
              the phase
    NEW ────────────────▶ OPEN
     │  │                  │
     │  └───▶ REFUSED      │                REFUSED: `connect` got an error; the client is to close
     ▼          ▼          ▼
     └───────▶ CLOSED ◀────┘                ended by us (`disconnect`) or by the peer (`lost`)

Commands are dealt with one after the other, in the order they came. A handler is a coroutine that is begun at
once; only where it has to wait (for an engine on disk, for the application) is there something for the
transport to await.

The session does what `heartwire.core.liveness` asks of a link: it is pinged, and only a pong is an answer.
"""

from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum
from typing import Any, Final, NamedTuple

import msgspec

from heartwire.codes import CODES
from heartwire.core.limits import TokenBucket
from heartwire.core.waiting import begun, settled
from heartwire.dialects.centrifugal import requests, subscribing
from heartwire.dialects.centrifugal.codec import Codec, Method
from heartwire.dialects.centrifugal.port import (
    Cancellable,
    Disconnected,
    Outlet,
    Port,
    ServerSide,
    TokenExpired,
    Welcome,
    told_as,
)
from heartwire.dialects.centrifugal.subscribing import Follower, Placed, seconds
from heartwire.dialects.centrifugal.types import (
    Command,
    ConnectRequest,
    ConnectResult,
    ErrorBody,
    MessageBody,
    RefreshRequest,
    RefreshResult,
    SubscribeRequest,
    SubscribeResult,
)
from heartwire.errors import HeartwireError, Refused, Unauthorized
from heartwire.types import Member

__all__ = ["TRANSITIONS", "Limits", "Phase", "Session"]


class Phase(Enum):
    NEW = "new"  # nothing may come but `connect`
    OPEN = "open"
    REFUSED = "refused"  # nothing is answered any more
    CLOSED = "closed"


TRANSITIONS: Final[dict[tuple[Phase, str], Phase]] = {
    (Phase.NEW, "connected"): Phase.OPEN,
    (Phase.NEW, "refused"): Phase.REFUSED,
    **{(phase, "ended"): Phase.CLOSED for phase in Phase},
}


class Limits(NamedTuple):
    """What holds for every session of a server.

    Attributes:
        version: what `connect` tells as the server's; never empty, a client's tests ask for it.
        ping_interval_s: what clients are told; they add 10 s of their own before they give up.
        max_channels: subscriptions of one connection.
        connect_within_s: a connection that says nothing is closed.
        grace_s: after a token's time is over: clients ask for the next one only then.
        recovered_items: publications in one reply; the rest of a long way follows as pushes.
        history_items: the same for ``history``.
        max_backlog_bytes: what may wait for a client that does not read, beside publications, which never
            wait.
        publish_rate_per_s, publish_burst: publishes of one connection; 0: no limit.
    """

    version: str
    ping_interval_s: float = 25
    max_channels: int = 1000
    connect_within_s: float = 10
    grace_s: float = 25
    recovered_items: int = 300
    history_items: int = 300
    max_backlog_bytes: int = 1024 * 1024
    publish_rate_per_s: float = 0
    publish_burst: int = 100


class Session:
    """See the module.

    Args:
        port: the server.
        codec: the encoding.
        outlet: where messages go.
        client: the connection's id, unique among nodes.
        now: the monotonic clock's seconds.
        origin: what the server wants to know when `Port.connect` comes; forgotten after that.
        emulation: ids of the session and the node, where commands come by the emulation endpoint.
        pong: whether the client must answer pings.

    Attributes:
        user, info: who it is, from `connect` on.
        subs: subscriptions by channel, those that are being made too.
        bucket: what its publishes are counted in; ``None``: they are not.
        round: the round that publishes with a key have to be of, or of a later one: see `requests.publish`.
    """

    __slots__ = (
        "_asks_outlet",
        "_deadline",
        "_deadline_at",
        "_expires_at",
        "_flushing",
        "_in_turn",
        "_ponged",
        "_refusals",
        "_unanswered",
        "asked",
        "bucket",
        "client",
        "codec",
        "context",
        "emulation",
        "limits",
        "member",
        "now",
        "origin",
        "out",
        "outlet",
        "phase",
        "pong",
        "port",
        "round",
        "subs",
        "waiting",
    )

    def __init__(
        self,
        port: Port,
        codec: Codec,
        outlet: Outlet,
        limits: Limits,
        *,
        client: str,
        now: float,
        origin: Any = None,
        emulation: tuple[str, str] = ("", ""),
        pong: bool = True,
    ) -> None:
        self.port = port
        self.codec = codec
        self.outlet = outlet
        self.limits = limits
        self.client = client
        self.now = now
        self.origin = origin
        self.emulation = emulation
        self.pong = pong
        self.context: Any = None  # the server's, for the life of the session
        self.phase = Phase.NEW
        self.member = Member(client)
        self.subs: dict[str, Follower] = {}
        self.out: list[bytes] = []
        self.waiting = False
        self.asked = False
        self._ponged = self._asks_outlet = self._flushing = self._in_turn = False
        self._refusals = self._unanswered = self.round = 0
        self._expires_at: float | None = None
        rate = limits.publish_rate_per_s
        self.bucket = TokenBucket(rate, limits.publish_burst, now) if rate else None
        self._deadline_at = now + limits.connect_within_s
        self._deadline: Cancellable | None = port.call_at(self._deadline_at, self)

    # -- what comes in ---------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> Awaitable[None] | None:
        """A frame came in. Returns what to await before the next one is given, where there is a need to."""
        self.now = now
        self._in_turn = True
        rest = begun(self._receive(data))
        self._in_turn = False
        self.flush()
        return rest

    async def _receive(self, data: bytes) -> None:
        self.waiting = True  # for as long as commands are dealt with, a pong cannot be heard
        try:
            for command in self.codec.commands(data):
                await self._handle(command)
                if self.phase is not Phase.OPEN:
                    break
        except ValueError as error:  # from the codec: handlers' are dealt with
            self.disconnect("bad_request", f"bad request: {error}")
        finally:
            self.waiting = False

    async def _handle(self, command: Command) -> None:
        """One command; the checks in the protocol's order."""
        if self.phase is Phase.NEW and command.connect is None:
            self.disconnect("bad_request", "bad request: connect comes first")
            return
        if self.phase in (Phase.REFUSED, Phase.CLOSED):
            return
        if not command.id and command.send is None:
            self._pong()
            return
        name, handler, request = _method(command)
        if handler is None:
            self.disconnect("bad_request", "bad request: unknown command")
            return
        try:
            await handler(self, command.id, request)
        except Disconnected as error:
            self.disconnect(error.code.name, error.reason)
        except Exception as error:
            self.refuse(command.id, name, error)

    async def connect(self, id: int, request: ConnectRequest) -> None:
        """Open the session."""
        if self.phase is not Phase.NEW:
            raise Disconnected("bad_request", "bad request: connected already")
        try:
            answer = self.port.connect(self, request)
            welcome = await settled(answer)
            made = await self._admit(welcome, request)
        except Disconnected:
            raise
        except Unauthorized as error:
            if not isinstance(error, TokenExpired):
                raise Disconnected("unauthorized", f"invalid token: {error.message}") from None
            self._refuse_connection(id, error)
            return
        except Exception as error:
            self._refuse_connection(id, error)
            return
        if made is None:
            return
        self._on("connected")
        self.origin = None
        self._expire_connection(welcome.ttl_s)
        self._set_deadline()
        self.reply(
            id,
            "connect",
            self._connected(welcome, {follower.channel: result for follower, result, _ in made}),
        )
        self.flush()
        self.port.opened(self)
        for follower, _, start in made:
            subscribing.go_live(self, follower, start)

    async def _admit(self, welcome: Welcome, request: ConnectRequest) -> list[Placed] | None:
        """Take on who it is, and place the server-side subscriptions; ``None`` where the session has ended
        meanwhile."""
        self.member = Member(self.client, welcome.user, welcome.info)
        made = []
        for sub in welcome.subs:
            if self.phase is not Phase.NEW:
                return None
            if len(self.subs) >= self.limits.max_channels:
                raise Disconnected("too_many_channels")
            if sub.channel not in self.subs:
                made.append(await subscribing.place_server_side(self, sub, request.subs.get(sub.channel)))
        return made if self.phase is Phase.NEW else None

    def _connected(self, welcome: Welcome, subs: dict[str, SubscribeResult]) -> ConnectResult:
        session, node = self.emulation
        return ConnectResult(
            client=self.client,
            version=self.limits.version,
            expires=welcome.ttl_s is not None,
            ttl=seconds(welcome.ttl_s),
            data=self.codec.payload(welcome.data) if welcome.data else None,
            subs=subs,
            ping=seconds(self.limits.ping_interval_s),
            pong=self.pong,
            session=session,
            node=node,
        )

    async def refresh(self, id: int, request: RefreshRequest) -> None:
        """A new connection token."""
        if not request.token:
            raise Disconnected("bad_request", "bad request: refresh without a token")
        try:
            refreshed = await settled(self.port.refresh(self, request.token))
        except TokenExpired:
            raise Disconnected("connection_expired") from None
        except Unauthorized as error:
            raise Disconnected("unauthorized", f"invalid token: {error.message}") from None
        self._expire_connection(refreshed.ttl_s)
        self.reply(id, "refresh", RefreshResult(refreshed.ttl_s is not None, seconds(refreshed.ttl_s)))

    def take_token(self) -> None:
        """One publish more. Raises `Refused`, and where that was not heard `Disconnected` (both
        ``too_many_requests``)."""
        if self.bucket is None:
            return
        if self.bucket.take(self.now):
            self._refusals = 0
            return
        self._refusals += 1
        if self._refusals > self.limits.publish_burst:
            raise Disconnected("too_many_requests")
        raise Refused("too_many_requests", CODES["too_many_requests"].text, after_s=self.bucket.wait_s)

    def keep_order(self, key: str, round: int) -> None:
        """Raise `Refused` (``out_of_order``) for a publish with a key whose round is over."""
        if key and round < self.round:
            raise Refused(
                "out_of_order",
                f"round {round} is over: send what was refused, and all after it, in round {self.round}",
            )

    def end_round(self, key: str, round: int, error: BaseException) -> None:
        """A publish failed: where that is for the time being, those that were sent behind it must not get in
        front of it."""
        if key and told_as(error).temporary:
            self.round = max(self.round, round + 1)

    # -- what goes out ---------------------------------------------------------------------------------------

    def reply(self, id: int, method: Method, result: msgspec.Struct) -> None:
        """Answer a command; sent by the next `flush`."""
        self.send(self.codec.reply(id, method, result))

    def send(self, message: bytes) -> None:
        """Queue a message; it goes out with the others of this turn, before anything that is written after a
        `flush`."""
        if self.phase is Phase.CLOSED:
            return
        self.out.append(message)
        if not self._in_turn and not self._flushing:
            self._flushing = True
            self.port.soon(self._flush_later)

    def flush(self) -> None:
        """Send what is queued."""
        if self.out:
            messages, self.out = self.out, []
            self._write(messages)

    def _flush_later(self) -> None:
        self._flushing = False
        self.flush()

    def _write(self, messages: list[bytes]) -> None:
        outlet = self.outlet
        outlet.write(messages)
        if (
            outlet.paused
            and outlet.backlog_bytes > self.limits.max_backlog_bytes
            and self.phase is not Phase.CLOSED
        ):
            self.disconnect("slow")

    def tell(self, payload: Any, write: Callable[[Any], None]) -> None:
        """Have ``write`` send something that was encoded for many, after what is queued; unless too much
        waits already."""
        self.flush()
        if self.phase is Phase.OPEN:
            write(payload)
            if self.outlet.paused and self.outlet.backlog_bytes > self.limits.max_backlog_bytes:
                self.disconnect("slow")

    def refuse(self, id: int, what: str, error: BaseException) -> None:
        """Answer a command with an error; a fault is told as ``internal``, and logged. ``send`` has no
        answer."""
        if not isinstance(error, HeartwireError):
            self.port.failed(self, what, error)
        code = told_as(error)
        message = code.text
        if isinstance(error, Refused) and error.message and not error.message.startswith(message):
            message = f"{message}: {error.message}"
        if id:
            self.send(self.codec.error(id, ErrorBody(code.number, message, code.temporary)))

    def _refuse_connection(self, id: int, error: BaseException) -> None:
        self._drop_subs()
        if self.phase is Phase.NEW:
            self.refuse(id, "connect", error)
            self.origin = None
            self._on("refused")

    # -- liveness: see heartwire.core.liveness.Watched -------------------------------------------------------

    @property
    def closed(self) -> bool:
        """The session is over."""
        return self.phase is Phase.CLOSED

    @property
    def heard(self) -> bool:
        """A pong has come; or none could, because the outlet is full or a command is being dealt with."""
        return self._ponged or self.waiting or not self.pong or (self._asks_outlet and self.outlet.heard)

    @heard.setter
    def heard(self, value: bool) -> None:
        self._ponged = value

    def ping(self) -> None:
        """Ask for a pong. A full outlet would not take it: there, that it takes anything is the sign of
        life."""
        self._asks_outlet = self.outlet.paused
        if self._asks_outlet:
            self.outlet.heard = False
        else:
            self.flush()
            self._unanswered += 1
            self.outlet.write([self.codec.ping])

    def give_up(self) -> None:
        """No pong came."""
        if self._end(CODES["no_pong"].close_code, CODES["no_pong"].reason):
            self.outlet.give_up()

    def _pong(self) -> None:
        if not self._unanswered:
            self.disconnect("bad_request", "bad request: a pong that nobody asked for")
            return
        self._unanswered -= (
            1  # may be of a ping before the last one: the pong waited while a command was dealt with
        )
        self._ponged = True

    # -- deadlines -------------------------------------------------------------------------------------------

    def handle_deadline(self, now: float) -> None:
        """A time that was asked for by `Port.call_at` has come."""
        self._deadline = None
        if self.phase in (Phase.NEW, Phase.REFUSED):
            self.disconnect("stale")
        elif self._expires_at is not None and self._expires_at <= now:
            self.disconnect("connection_expired")
        else:
            subscribing.expire(self, now)
            if self.phase is Phase.OPEN:
                self._set_deadline()

    def call_by(self, when: float) -> None:
        """See to it that `handle_deadline` comes at ``when`` at the latest."""
        if self._deadline is not None:
            if self._deadline_at <= when:
                return
            self._deadline.cancel()
        self._deadline_at = when
        self._deadline = self.port.call_at(when, self)

    def _set_deadline(self) -> None:
        """Ask for the next one of an open session, and for no other."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        times = [follower.expires_at for follower in self.subs.values() if follower.expires_at is not None]
        if self._expires_at is not None:
            times.append(self._expires_at)
        if times:
            self.call_by(min(times))

    def _expire_connection(self, ttl_s: float | None) -> None:
        self._expires_at = None if ttl_s is None else self.now + ttl_s + self.limits.grace_s
        if self._expires_at is not None:
            self.call_by(self._expires_at)

    # -- what the server does to it --------------------------------------------------------------------------

    @property
    def user(self) -> str:
        """Who it is; "" when anonymous, and before `connect`."""
        return self.member.user

    def subscribe(self, sub: ServerSide, recover: SubscribeRequest | None = None) -> Awaitable[None] | None:
        """Subscribe it to a channel, and tell it. Without effect where it is subscribed. Returns what to
        await, if anything.

        Raises `Refused`, at once or when awaited.
        """
        return begun(subscribing.subscribe_server_side(self, sub, recover))

    def unsubscribe(self, channel: str, code: int = 2000, reason: str = "server unsubscribe") -> bool:
        """End a subscription, and tell why; whether there was one. Codes under 2500 are for good; ``reason``
        is not empty."""
        follower = self.subs.get(channel)
        if follower is not None:
            subscribing.end(self, follower, code, reason)
        return follower is not None

    def message(self, data: bytes) -> None:
        """Push a message that belongs to no channel."""
        self._push("message", MessageBody(self.codec.payload(data)))

    def refreshed(self, ttl_s: float | None) -> None:
        """The connection lives on (or, with 0, has ended its life) as the server says."""
        self._expire_connection(ttl_s)
        self._push("refresh", RefreshResult(ttl_s is not None, seconds(ttl_s)))

    def _push(self, kind: Any, body: msgspec.Struct) -> None:
        if self.phase is Phase.OPEN:
            self.send(self.codec.push(kind, "", body))

    def disconnect(self, name: str, reason: str = "") -> None:
        """End the connection with a named code. Idempotent."""
        self.disconnect_with(CODES[name].close_code, reason or CODES[name].reason)

    def disconnect_with(self, code: int, reason: str) -> None:
        """End the connection with a code of the application's, in the ranges of `heartwire.codes`; ``reason``
        is not empty."""
        if self.phase is Phase.CLOSED:
            return
        self.flush()
        if self._end(code, reason):
            self.outlet.close(code, reason)

    def lost(self) -> None:
        """The peer is gone. Idempotent."""
        if self.phase is not Phase.CLOSED:
            self._end(CODES["connection_closed"].close_code, CODES["connection_closed"].reason)

    def _end(self, code: int, reason: str) -> bool:
        if self.phase is Phase.CLOSED:  # by what was flushed
            return False
        was_open = self.phase is Phase.OPEN
        self._on("ended")
        self.out = []
        self.origin = None
        if self._deadline is not None:
            self._deadline.cancel()
        self._drop_subs()
        if was_open:
            self.port.ended(self, code, reason)
        return True

    def _drop_subs(self) -> None:
        subs, self.subs = self.subs, {}
        for follower in subs.values():
            self.port.unfollow(follower)

    def _on(self, event: str) -> None:
        self.phase = TRANSITIONS[self.phase, event]


def _method(command: Command) -> "tuple[str, _Handler | None, Any]":
    for name, handler in _METHODS:
        request = getattr(command, name)
        if request is not None:
            return name, handler, request
    return "", None, None


_Handler = Callable[[Session, int, Any], Coroutine[Any, Any, None]]

_METHODS: Final[tuple[tuple[str, _Handler], ...]] = (
    ("connect", Session.connect),
    ("subscribe", subscribing.subscribe),
    ("unsubscribe", subscribing.unsubscribe),
    ("publish", requests.publish),
    ("presence", requests.presence),
    ("presence_stats", requests.presence_stats),
    ("history", requests.history),
    ("ping", requests.ping),
    ("rpc", requests.rpc),
    ("send", requests.send),
    ("refresh", Session.refresh),
    ("sub_refresh", subscribing.sub_refresh),
)
