"""Values that sessions and the server exchange, and the exceptions between them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar, Union

import msgspec
from msgspec.structs import asdict, replace

from heartwire.codes import CODES, Code
from heartwire.errors import HeartwireError, Unauthorized
from heartwire.types import Override, Position, ServerSubscription

__all__ = [
    "Answer",
    "Disconnected",
    "Done",
    "Later",
    "Post",
    "Refreshed",
    "Rules",
    "SessionSettings",
    "SubscriptionGrant",
    "TokenExpired",
    "Welcome",
    "error_code",
]

T = TypeVar("T")
Answer: TypeAlias = Union[T, Awaitable[T]]  # noqa: UP007 - mypy takes `|` of a type variable for a value
"""The value where it is known, else what to await for it."""

Done: TypeAlias = Callable[[Position | BaseException], None]

Later: TypeAlias = Callable[[Done], Awaitable[None] | None]
"""To be called with what is to be called with the outcome, once it is there. Returns what to await before the
next command, if anything."""
"""Takes the outcome of a publish: its position, or the error."""


class Disconnected(HeartwireError):
    """Ends the connection with the ``close_code`` of a named code, without a reply."""

    def __init__(self, name: str, reason: str = "") -> None:
        self.code = CODES[name]
        self.reason = reason or self.code.reason
        super().__init__(self.reason)


class TokenExpired(Unauthorized):
    """The token was valid once: the client may get a new one."""

    code = CODES["token_expired"]

    def __init__(self, message: str = "token expired") -> None:
        super().__init__(message)
        self.code = CODES["token_expired"]


def error_code(error: BaseException) -> Code:
    """The code that a client receives for an error; ``internal`` for a fault, whose details stay here."""
    return error.code if isinstance(error, HeartwireError) and error.code.number else CODES["internal"]


class SessionSettings(NamedTuple):
    """Settings of every session of a server.

    Attributes:
        version: the server's version in the reply to ``connect``; never empty, a client's tests require it.
        ping_interval_s: announced to clients; they wait 10 s longer before they give up.
        max_channels: subscriptions of one connection.
        connect_within_s: a connection that does not send ``connect`` is closed after this time.
        grace_s: time after a token's expiry; clients ask for the next token only then.
        recovered_items: publications in one reply; the rest of a long recovery follows as pushes.
        history_items: publications in one reply to ``history``.
        publish_burst: publishes that may be refused for their rate in a row; one more disconnects the client.
        max_frame_bytes: the largest frame; `Session` leaves it to who gives it frames.
    """

    version: str
    ping_interval_s: float = 25
    max_channels: int = 1000
    connect_within_s: float = 10
    grace_s: float = 25
    recovered_items: int = 300
    history_items: int = 300
    publish_burst: int = 100
    max_frame_bytes: int = 2**20


class Rules(msgspec.Struct, frozen=True):
    """Options of a channel.

    Attributes:
        presence: the channel has presence.
        join_leave: joins and leaves are sent.
        force_push_join_leave: to every subscriber, not only to those who ask (and may read presence).
        force_positioning: every subscriber receives its position, asked or not.
        force_recovery: every subscriber may recover, asked or not.
        allow_positioning, allow_recovery: those who ask may.
        cache: recovery brings the newest publication only.
    """

    presence: bool = True
    join_leave: bool = False
    force_push_join_leave: bool = False
    force_positioning: bool = False
    force_recovery: bool = False
    allow_positioning: bool = True
    allow_recovery: bool = True
    cache: bool = False

    def overridden(self, override: Override | None) -> "Rules":
        """The rules of a subscription with options of its own."""
        if override is None:
            return self
        given = {name: value for name, value in asdict(override).items() if value is not None}
        if override.force_recovery is False:
            given["allow_recovery"] = False
        if override.force_positioning is False:
            given["allow_positioning"] = False
        return replace(self, **given)


class Welcome(msgspec.Struct, frozen=True):
    """The server accepts a connection.

    Attributes:
        user: the user's name; "" when anonymous.
        info: JSON that others see in presence, joins and publications.
        ttl_s: seconds until the connection expires; ``None``: it does not.
        data: the payload of the reply.
        subs: server-side subscriptions.
    """

    user: str = ""
    info: bytes | None = None
    ttl_s: float | None = None
    data: bytes | None = None
    subs: Sequence[ServerSubscription] = ()


class SubscriptionGrant(msgspec.Struct, frozen=True):
    """The server allows a subscription. ``ttl_s``: seconds until it expires; ``None``: it does not."""

    ttl_s: float | None = None
    info: bytes | None = None
    data: bytes | None = None
    override: Override | None = None


class Refreshed(NamedTuple):
    """A connection or subscription continues; ``ttl_s`` as in `Welcome`. ``channel``: the subscription's."""

    ttl_s: float | None = None
    channel: str = ""
    info: bytes | None = None
    override: Override | None = None


class Post(msgspec.Struct, frozen=True, gc=False):
    """A publish's content, and whether it is text. ``key`` "": none; ``round``: see `publishing`."""

    data: bytes
    is_text: bool
    key: str = ""
    round: int = 0
