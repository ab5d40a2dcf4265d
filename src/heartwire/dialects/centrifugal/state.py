"""State of one connection, and what every handler of a command does with it: send, refuse, end.

              connect                       phases, and what moves them (`TRANSITIONS`); nothing else assigns
              the phase
    NEW ────────────────▶ OPEN
     │  │                  │
     │  └───▶ REFUSED      │                REFUSED: `connect` got an error; the client is to close
     ▼          ▼          ▼
     └───────▶ CLOSED ◀────┘                ended by us (`disconnect`) or by the peer (`Session.lost`)

Handlers are plain functions over `SessionState` (`connecting`, `subscribing`, `publishing`, `requests`);
`session.Session` calls them.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import Any, Final, Literal

import msgspec

from heartwire.codes import CODES
from heartwire.core.subscription import Subscription
from heartwire.dialects.centrifugal.codec import Codec, Method, PushKind
from heartwire.dialects.centrifugal.port import Cancellable, Outlet, Port
from heartwire.dialects.centrifugal.types import ErrorBody, UnsubscribeBody
from heartwire.dialects.centrifugal.values import SessionSettings, error_code
from heartwire.errors import HeartwireError, Refused
from heartwire.types import Channel, Member, Override, Position, Publication

__all__ = ["TRANSITIONS", "ClientSubscription", "Phase", "SessionState"]

_INSUFFICIENT: Final = (2500, "insufficient state")
_CLOSED: Final = 2100
"""Ours, of those after which an SDK does not subscribe again (below 2500)."""


class Phase(Enum):
    NEW = "new"  # only `connect` may come
    OPEN = "open"
    REFUSED = "refused"  # nothing is answered any more
    CLOSED = "closed"


# By names of their own: Python 3.11 finds attributes of an enum by way of a function.
NEW: Final = Phase.NEW
OPEN: Final = Phase.OPEN
REFUSED: Final = Phase.REFUSED
CLOSED: Final = Phase.CLOSED

TRANSITIONS: Final[dict[tuple[Phase, str], Phase]] = {
    (Phase.NEW, "connected"): Phase.OPEN,
    (Phase.NEW, "refused"): Phase.REFUSED,
    **{(phase, "ended"): Phase.CLOSED for phase in Phase},
}


@dataclass(slots=True, eq=False)
class SessionState:
    """See the module. `Phase.NEW` lasts until ``connect``, for ``connect_within_s`` at most."""

    port: "Port[Any, ClientSubscription]"  # of this class, or of the server's subclass
    codec: Codec
    outlet: Outlet  # a server that has a class of its own for it narrows this in a subclass
    settings: SessionSettings
    _: KW_ONLY
    client: str  # the connection's id, unique among nodes
    now: float  # the monotonic clock's seconds
    emulation: tuple[str, str] = ("", "")  # ids of session and node, where the emulation endpoint is used
    pong: bool = True  # the client must answer pings
    phase: Phase = NEW
    member: Member = field(init=False)  # the client, as others see it; anonymous before `connect`
    subs: "dict[str, ClientSubscription]" = field(default_factory=dict)  # also those that are being made
    out: list[bytes] = field(default_factory=list)
    round: int = 0  # the least round of publishes with a key: see `publishing`
    too_fast: int = 0  # publishes refused as ``too_many_requests`` since the last one that was kept
    expires_at: float | None = None  # monotonic seconds, with the grace; ``None``: it does not expire
    waiting: bool = False  # a command is being handled, so that a pong cannot be read
    asked: bool = False
    _ponged: bool = False
    _asks_outlet: bool = False
    _out_bytes: int = 0
    _flushing: bool = False
    _in_turn: bool = False
    _unanswered: int = 0
    _deadline_at: float = field(init=False)
    _deadline: Cancellable | None = field(init=False)

    def __post_init__(self) -> None:
        self.member = Member(self.client)
        self._deadline_at = self.now + self.settings.connect_within_s
        self._deadline = self.port.call_at(self._deadline_at, self)

    def move(self, event: str) -> None:
        """Move to the next phase; see `TRANSITIONS`."""
        self.phase = TRANSITIONS[self.phase, event]

    # -- outbound --------------------------------------------------------------------------------------------

    def reply(self, id: int, method: Method, result: msgspec.Struct) -> None:
        """Answer a command; sent by the next `flush`."""
        self.send(self.codec.reply(id, method, result))

    def push(self, kind: PushKind, channel: str, body: msgspec.Struct) -> None:
        """Queue a push; ``channel`` is "" for those that have none."""
        self.send(self.codec.push(kind, channel, body))

    def refuse(self, id: int, what: str, error: BaseException) -> None:
        """Answer a command (unless its id is 0) with an error. A fault is ``internal``, and logged."""
        if not isinstance(error, HeartwireError):
            self.port.failed(self, what, error)
        code = error_code(error)
        message = code.text
        if isinstance(error, Refused) and error.message and not error.message.startswith(message):
            message = f"{message}: {error.message}"
        if id:
            self.send(self.codec.error(id, ErrorBody(code.number, message, code.temporary)))

    def send(self, message: bytes) -> None:
        """Queue a message for the end of this turn, or the next `flush` if that comes before."""
        if self.phase is CLOSED:
            return
        self.out.append(message)
        self._out_bytes += len(message)
        if not self._in_turn and not self._flushing:
            self._flushing = True
            self.port.soon(self._flush_later)

    def flush(self) -> None:
        """Send what is queued."""
        if self.out:
            messages, self.out, self._out_bytes = self.out, [], 0
            if not self.outlet.write(messages):
                self._end_of_pipe()

    def _flush_later(self) -> None:
        self._flushing = False
        self.flush()

    def relay(self, payload: Any, write: Callable[[Any], bool]) -> None:
        """Have ``write``, which returns what `Outlet.write` does, send what was encoded for many, after the
        queue."""
        self.flush()
        if self.phase is OPEN and not write(payload):
            self._end_of_pipe()

    def _end_of_pipe(self) -> None:
        """The pipe has closed, because its peer is too slow."""
        self.end(CODES["slow"].close_code, CODES["slow"].reason)

    # -- deadlines -------------------------------------------------------------------------------------------

    def expiry(self, ttl_s: float | None) -> float | None:
        """Return when what lives for ``ttl_s`` expires, with the grace, and set the deadline for it."""
        if ttl_s is None:
            return None
        expires_at = self.now + ttl_s + self.settings.grace_s
        self.call_by(expires_at)
        return expires_at

    def call_by(self, when: float) -> None:
        """Have `Session.handle_deadline` called at ``when`` at the latest."""
        if self._deadline is not None:
            if self._deadline_at <= when:
                return
            self._deadline.cancel()
        self._deadline_at = when
        self._deadline = self.port.call_at(when, self)

    def set_deadline(self) -> None:
        """Ask for the next deadline of an open session, and for no other."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        times = [sub.expires_at for sub in self.subs.values() if sub.expires_at is not None]
        if self.expires_at is not None:
            times.append(self.expires_at)
        if times:
            self.call_by(min(times))

    # -- the end ---------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """The session is over."""
        return self.phase is CLOSED

    def disconnect(self, name: str, reason: str = "") -> None:
        """End the connection with a named code. Idempotent."""
        self.disconnect_with(CODES[name].close_code, reason or CODES[name].reason)

    def disconnect_with(self, code: int, reason: str) -> None:
        """End it with a code of the ranges of `heartwire.codes`, and a reason, not empty. Idempotent."""
        if self.phase is CLOSED:
            return
        self.flush()
        if self.end(code, reason):
            self.outlet.close(code, reason)

    def end(self, code: int, reason: str) -> bool:
        """End the session on our side; false where it has ended before, perhaps by what was flushed."""
        if self.phase is CLOSED:
            return False
        was_open = self.phase is OPEN
        self.move("ended")
        self.out = []
        if self._deadline is not None:
            self._deadline.cancel()
        self.drop_subs()
        if was_open:
            self.port.ended(self, code, reason)
        return True

    def drop_subs(self) -> None:
        """End all subscriptions, without a word to the client."""
        subs, self.subs = self.subs, {}
        for sub in subs.values():
            self.port.unfollow(self, sub)


@dataclass(slots=True, eq=False)
class ClientSubscription:
    """One subscription of a session: `heartwire.core.subscription.ChannelListener`. See `subscribing`."""

    session: SessionState
    channel: Channel
    _: KW_ONLY
    is_server_side: bool = False  # the server has made it
    subscription: Subscription | None = None  # the core's, once it is made
    hears_members: bool = False  # receives joins and leaves
    expires_at: float | None = None  # monotonic seconds, with the grace; ``None``: it does not expire
    override: Override | None = None  # options of the channel that are others for it
    member: Member = field(init=False)  # the client, as others in this channel see it

    def __post_init__(self) -> None:
        self.member = self.session.member

    def inform(self, chan_info: bytes | None) -> None:
        """Set the client's info in this channel."""
        member = self.session.member
        self.member = Member(member.client, member.user, member.info, chan_info) if chan_info else member

    def expire_in(self, ttl_s: float | None) -> None:
        """Set how long it lasts from now on."""
        self.expires_at = self.session.expiry(ttl_s)

    def live(self, subscription: Subscription) -> None:
        """See `ChannelListener.live`."""
        self.subscription = subscription

    def hear(self, kind: Literal["join", "leave"], member: Member, made: dict[Any, Any]) -> None:
        """See `ChannelListener.hear`."""
        if self.hears_members:
            self.session.outlet.announce(self.channel, kind, member, made)

    def gap(self, position: Position) -> None:
        """See `ChannelListener.gap`."""
        if self.is_server_side:
            self.session.disconnect("insufficient_state")
        else:
            self.end(*_INSUFFICIENT)

    def ended(self, subscription: Subscription, end: Publication) -> None:
        """See `ChannelListener.ended`."""
        self.close(end)

    def close(self, end: Publication) -> None:
        """End it because its stream is closed, and the client has all of it."""
        self.end(_CLOSED, f"stream closed: {end.reason}")

    def forget(self) -> None:
        """Take it out of the session, where it still is in it."""
        if self.session.subs.get(self.channel) is self:
            del self.session.subs[self.channel]

    def leave(self) -> None:
        """End it, without a word to the client."""
        self.forget()
        self.session.port.unfollow(self.session, self)

    def end(self, code: int, reason: str) -> None:
        """End it from our side, with an ``unsubscribe`` push."""
        self.leave()
        self.session.push("unsubscribe", self.channel, UnsubscribeBody(code, reason))
        self.session.flush()
