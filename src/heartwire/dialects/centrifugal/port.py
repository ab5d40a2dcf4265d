"""The seams of a session: what it asks of the server (`Port`), and where it writes (`Outlet`)."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol, TypeVar

from heartwire.core.switchboard import ReadResult
from heartwire.dialects.centrifugal.types import ConnectRequest
from heartwire.dialects.centrifugal.values import (
    Answer,
    Later,
    Post,
    Refreshed,
    Rules,
    SubscriptionGrant,
    Welcome,
)
from heartwire.types import Action, Channel, Member, Position, Publication, Start

__all__ = ["Cancellable", "Outlet", "Port"]

# The server's class of session, and `state.ClientSubscription`. As parameters, because both need this module.
SessionT = TypeVar("SessionT", contravariant=True)
SubscriptionT = TypeVar("SubscriptionT", contravariant=True)


class Outlet(Protocol):
    """Where a session's messages go: a link of the hub, seen from the dialect."""

    heard: bool
    """Set when the peer has taken or sent anything; cleared by a session that cannot ask (it is full)."""

    @property
    def paused(self) -> bool:
        """The pipe is full."""

    @property
    def takes(self) -> bool:
        """The pipe is full, and the peer has taken some of it since `look`."""

    def look(self) -> None:
        """Note how much waits in the full pipe."""

    def drained(self) -> Awaitable[None]:
        """What to await before more is done for a peer that takes nothing."""

    def write(self, messages: list[bytes]) -> bool:
        """Send messages (at least one), in one frame if there are frames. Never raises, never blocks.

        Returns whether the pipe is open: it may have closed because too much waits for its peer.
        """

    def announce(
        self, channel: Channel, kind: Literal["join", "leave"], member: Member, made: dict[Any, Any]
    ) -> None:
        """Send a join or leave; ``made`` keeps what was encoded for other outlets of the same wire format."""

    def close(self, code: int, reason: str) -> None:
        """End the connection with a reason (close frame or disconnect push). Never raises."""

    def give_up(self) -> None:
        """End the connection to a dead peer, without waiting for it. Never raises."""


class Cancellable(Protocol):
    """A deadline that was asked for."""

    def cancel(self) -> None:
        """Drop the deadline. Idempotent."""


class Port(Protocol[SessionT, SubscriptionT]):
    """What the server does for sessions; one object serves all of them.

    Each method lists what it may raise. Anything else is a fault of ours or of the application: the client
    receives ``internal``, and the session reports the fault to `failed`.
    """

    def connect(self, session: SessionT, request: ConnectRequest) -> Answer[Welcome]:
        """Identify the client: check its token, ask the application (authenticator, connect hook)."""

    def opened(self, session: SessionT) -> None:
        """The connection is open, its reply queued: from now on it is found by others, and pinged."""

    def ended(self, session: SessionT, code: int, reason: str) -> None:
        """The session is over, its subscriptions left. Called once for each that was `opened`."""

    def channel(self, session: SessionT, name: str) -> Channel:
        """Check a name. Raises `Refused` (``bad_channel``, ``unknown_channel``)."""

    def rules(self, channel: Channel) -> Rules:
        """The options of a channel that `channel` has checked."""

    def authorize(self, session: SessionT, action: Action, channel: Channel) -> Answer[None]:
        """Check the right to read presence or history. Raises `Forbidden`, `Refused` (``not_available``)."""

    def grant(
        self, session: SessionT, channel: Channel, token: str, data: bytes
    ) -> Answer[SubscriptionGrant]:
        """Check the permission to subscribe. ``token`` "": the client has none.

        Raises `Forbidden`; `TokenExpired`; `Unauthorized` for a bad token (the session answers 103);
        `Disconnected` (``unauthorized``) for a token of another user or channel.
        """

    def refresh(self, session: SessionT, token: str) -> Answer[Refreshed]:
        """Check a new connection token. Raises `TokenExpired`, `Unauthorized` (also for another user's)."""

    def sub_refresh(self, session: SessionT, channel: str, token: str) -> Answer[Refreshed]:
        """Check a new subscription token; ``channel`` "": the token names it. Raises as `refresh`."""

    def where(self, channel: Channel) -> Position | None:
        """The stream's position where this node knows it, so that most subscribers need not wait."""

    def read(self, channel: Channel, start: Start, *, limit: int) -> Answer[ReadResult]:
        """`Engine.read`, or the channel's tail in memory where that has all of it; the end of a stream is in
        `ReadResult.end` only."""

    def history(
        self, channel: Channel, *, limit: int, since: Position | None, reverse: bool
    ) -> Awaitable[tuple[list[Publication], Position]]:
        """A page, and the stream's position. ``since`` with epoch "": the current epoch.

        Raises `Refused` (``unrecoverable_position``: another epoch; ``bad_request``: backwards from the
        beginning).
        """

    def follow(self, session: SessionT, subscription: SubscriptionT, start: Position) -> None:
        """Begin live delivery after a position, and presence. The reply has been written before."""

    def unfollow(self, session: SessionT, subscription: SubscriptionT) -> None:
        """End live delivery and presence (with a leave), where they have begun."""

    def publish(self, session: SessionT, name: str, post: Post) -> Position | Later:
        """Publish for a client, in this order: channel name, size, rate, permission, hook,
        `publishing.keep_order`, append (in the order of calls).

        Returns the position (with a known key: the first one's), or what to call where it comes later.
        Raises `Refused`, `EngineUnavailable`, at once or when awaited; `Later` reports nothing then. The
        session counts refusals as ``too_many_requests``, however they are reported.
        """

    def members(self, channel: Channel) -> Awaitable[list[Member]]:
        """The channel's members, of all nodes."""

    def rpc(self, session: SessionT, method: str, data: bytes) -> Answer[bytes | None]:
        """Call a method of the application. Raises `Refused` (``method_not_found``; ``not_available`` where
        there are no methods at all)."""

    def send(self, session: SessionT, data: bytes) -> Answer[None]:
        """Take a message without a reply. Raises `Disconnected` (``not_available``) where nobody listens."""

    def next_turn(self) -> Awaitable[None]:
        """What to await before a session goes on with a long frame, so that others come first."""

    def soon(self, work: Callable[[], None]) -> None:
        """Run ``work`` after this turn of the event loop."""

    def call_at(self, when: float, session: SessionT) -> Cancellable:
        """Have ``session.handle_deadline(now)`` called at ``when`` or soon after."""

    def failed(self, session: SessionT, what: str, error: BaseException) -> None:
        """Log a fault, with its traceback."""
