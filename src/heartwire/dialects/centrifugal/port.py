"""The seams of a session: what it asks of the server (`Port`), and where it writes (`Outlet`)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, Union

import msgspec

from heartwire.codes import CODES, Code
from heartwire.core.switchboard import ReadResult
from heartwire.dialects.centrifugal.types import ConnectRequest
from heartwire.errors import HeartwireError, Unauthorized
from heartwire.types import Channel, Member, Position, Publication, Start

if TYPE_CHECKING:
    from heartwire.dialects.centrifugal.session import Session
    from heartwire.dialects.centrifugal.subscribing import Follower

__all__ = [
    "Action",
    "Answer",
    "Cancellable",
    "Disconnected",
    "Outlet",
    "Port",
    "Post",
    "Refreshed",
    "Rules",
    "ServerSide",
    "SubscriptionGrant",
    "TokenExpired",
    "Welcome",
    "told_as",
]

T = TypeVar("T")
Answer: TypeAlias = Union[T, Awaitable[T]]  # noqa: UP007 - mypy takes `|` of a type variable for a value
"""The value where it is known, else what to await for it."""

Action = Literal["subscribe", "publish", "presence", "history"]


class Disconnected(HeartwireError):
    """Ends the connection with the ``close_code`` of a named code; nothing is replied."""

    def __init__(self, name: str, reason: str = "") -> None:
        self.code = CODES[name]
        self.reason = reason or self.code.reason
        super().__init__(self.reason)


class TokenExpired(Unauthorized):
    """The token was good once: the client may get a new one."""

    code = CODES["token_expired"]

    def __init__(self, message: str = "token expired") -> None:
        super().__init__(message)
        self.code = CODES["token_expired"]


def told_as(error: BaseException) -> Code:
    """The code by which a client is told of what went wrong; of a fault, no more than that it is one."""
    return error.code if isinstance(error, HeartwireError) and error.code.number else CODES["internal"]


class Rules(msgspec.Struct, frozen=True):
    """What holds in a channel, for sessions. The server makes one per namespace from its options, not one per
    call.

    Attributes:
        presence: who is there is known.
        join_leave: joins and leaves are told.
        force_push_join_leave: to everybody, not only to those who ask (and may read presence).
        force_positioning: every subscriber's position is told, asked or not.
        force_recovery: every subscriber may recover, asked or not.
        allow_positioning, allow_recovery: those who ask may.
        cache: recovery brings the newest publication, and no more.
    """

    presence: bool = True
    join_leave: bool = False
    force_push_join_leave: bool = False
    force_positioning: bool = False
    force_recovery: bool = False
    allow_positioning: bool = True
    allow_recovery: bool = True
    cache: bool = False


class ServerSide(NamedTuple):
    """A channel that the server subscribes a connection to. ``info`` is JSON about them in this channel."""

    channel: str
    info: bytes | None = None
    join_leave: bool = False
    positioned: bool = False
    recoverable: bool = False
    data: bytes | None = None
    ttl_s: float | None = None


class Welcome(NamedTuple):
    """A connection is let in.

    Attributes:
        user: who it is; "" when anonymous.
        info: JSON that others see in presence, joins and publications.
        ttl_s: seconds until the connection expires; ``None``: it does not.
        data: the payload of the reply.
        subs: server-side subscriptions.
    """

    user: str = ""
    info: bytes | None = None
    ttl_s: float | None = None
    data: bytes | None = None
    subs: Sequence[ServerSide] = ()


class SubscriptionGrant(NamedTuple):
    """A subscription is allowed. ``ttl_s``: seconds until it expires; ``None``: it does not."""

    ttl_s: float | None = None
    info: bytes | None = None
    data: bytes | None = None


class Refreshed(NamedTuple):
    """A connection or subscription lives on; ``ttl_s`` as in `Welcome`. ``channel``: the subscription's."""

    ttl_s: float | None = None
    channel: str = ""
    info: bytes | None = None


class Post(NamedTuple):
    """What is to be published: bytes, and whether they are text. ``key`` "": it has none; ``round``: see
    `requests.publish`."""

    data: bytes
    is_text: bool
    key: str = ""
    round: int = 0


class Outlet(Protocol):
    """Where a session's messages go: a link of the hub, seen from the dialect."""

    heard: bool
    """Set when the peer has taken or sent anything; the session clears it when it cannot ask (the pipe is
    full)."""

    @property
    def paused(self) -> bool:
        """The pipe is full."""

    @property
    def backlog_bytes(self) -> int:
        """About how much of what was written waits in this process."""

    def write(self, messages: list[bytes]) -> None:
        """Send messages (at least one), in one frame where the transport has frames. Never raises, never
        blocks."""

    def tell(
        self, channel: Channel, kind: Literal["join", "leave"], member: Member, made: dict[Any, Any]
    ) -> None:
        """Send a join or leave; ``made`` keeps what was encoded for other outlets of the same wire format."""

    def close(self, code: int, reason: str) -> None:
        """End the connection: the transport tells the peer (a WebSocket close, or a disconnect push). Never
        raises."""

    def give_up(self) -> None:
        """The peer is dead: end the connection without waiting for it. Never raises."""


class Cancellable(Protocol):
    """A deadline that was asked for."""

    def cancel(self) -> None:
        """It is not wanted any more. Idempotent."""


class Port(Protocol):
    """What the server does for sessions; one object serves all of them.

    What each may raise is in the package's docstring; anything else that is raised is a fault of ours or of
    the application: the client is answered ``internal``, and the session hands it to `failed`.
    """

    def connect(self, session: "Session", request: ConnectRequest) -> Answer[Welcome]:
        """Who is this? Checks the token, asks the application (authenticator, connect hook)."""

    def opened(self, session: "Session") -> None:
        """The connection is open, its reply written: others may find it now (by user, by client), and it is
        pinged."""

    def ended(self, session: "Session", code: int, reason: str) -> None:
        """The session is over, its subscriptions left. Called once for each that was `opened`."""

    def channel(self, session: "Session", name: str) -> Channel:
        """Check a name. Raises `Refused` (``bad_channel``, ``unknown_channel``)."""

    def rules(self, channel: Channel) -> Rules:
        """What holds in a channel that `channel` has checked."""

    def authorize(self, session: "Session", action: Action, channel: Channel) -> Answer[None]:
        """Whether they may (for "subscribe": `grant`). Raises `Forbidden`, `Refused` (``not_available``)."""

    def grant(
        self, session: "Session", channel: Channel, token: str, data: bytes
    ) -> Answer[SubscriptionGrant]:
        """Whether they may subscribe. ``token`` "": they have none.

        Raises `Forbidden`; `TokenExpired`; `Unauthorized` for a bad token (the session answers 103);
        `Disconnected` (``unauthorized``) for a token of another user or channel.
        """

    def refresh(self, session: "Session", token: str) -> Answer[Refreshed]:
        """A new connection token. Raises `TokenExpired`, `Unauthorized`, also where it is another user's."""

    def sub_refresh(self, session: "Session", channel: str, token: str) -> Answer[Refreshed]:
        """A new subscription token; ``channel`` "": it is in the token. Raises as `refresh`."""

    def where(self, channel: Channel) -> Position | None:
        """The stream's position where this node knows it: so that most subscribers need not wait."""

    def read(self, channel: Channel, start: Start, *, limit: int) -> Answer[ReadResult]:
        """`Engine.read`, or the channel's tail in memory where that has all of it."""

    def history(
        self, channel: Channel, *, limit: int, since: Position | None, reverse: bool
    ) -> Awaitable[tuple[list[Publication], Position]]:
        """A page, and the stream's position. ``since`` with epoch "": whichever it is now.

        Raises `Refused` (``unrecoverable_position``: another epoch; ``bad_request``: backwards from the
        beginning).
        """

    def follow(self, session: "Session", follower: "Follower", start: Position) -> None:
        """Begin live delivery after a position, and presence. The reply has been written before."""

    def unfollow(self, follower: "Follower") -> None:
        """End it; also presence. Others are told that they left, where the channel tells."""

    def publish(
        self,
        session: "Session",
        channel: Channel,
        post: Post,
        done: Callable[[Position | BaseException], None],
    ) -> Awaitable[None] | None:
        """Ask the application (publish hook) and then `Session.keep_order`, and append in the order of calls.

        ``done`` is called once it is kept, with its position (with a known key: the first one's), or with
        what it failed for; at once, or after this has returned. Returns what to wait for before the next
        command, where there is a need to.
        Raises `Refused`, `EngineUnavailable`, at once or when awaited; ``done`` is not called then.
        """

    def members(self, channel: Channel) -> Awaitable[list[Member]]:
        """Who is there, on any node."""

    def rpc(self, session: "Session", method: str, data: bytes) -> Answer[bytes | None]:
        """Raises `Refused` (``method_not_found``; ``not_available`` where there are no methods at all)."""

    def send(self, session: "Session", data: bytes) -> Answer[None]:
        """A message without a reply. Raises `Disconnected` (``not_available``) where nobody listens."""

    def soon(self, work: Callable[[], None]) -> None:
        """Run ``work`` after this turn of the event loop."""

    def call_at(self, when: float, session: "Session") -> Cancellable:
        """Have ``session.handle_deadline(now)`` called at ``when`` or soon after."""

    def failed(self, session: "Session", what: str, error: BaseException) -> None:
        """Log a fault, with its traceback."""
