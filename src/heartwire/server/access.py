"""Who is this, and may they do that: identities, namespaces, origins, connection and rate limits."""

import inspect
import math
import random
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

import msgspec
from starlette.requests import HTTPConnection

from heartwire.core.limits import TokenBucket, Turns
from heartwire.dialects.plain import namespace_of, to_channel
from heartwire.engines.base import Retention
from heartwire.errors import Forbidden, LimitExceeded, Refused, Unauthorized, UnknownChannel
from heartwire.server.claims import Expired, Invalid
from heartwire.server.options import HubOptions, NamespaceOptions
from heartwire.types import Channel

if TYPE_CHECKING:
    from heartwire.server.tokens import Tokens

__all__ = [
    "ACTIONS",
    "ANONYMOUS",
    "Action",
    "Authenticator",
    "Connections",
    "Identity",
    "Namespaces",
    "Permission",
    "Rates",
    "come_back",
    "farewell",
    "identify",
    "same_origin",
    "take",
    "token_authenticator",
    "token_of",
]

Action = Literal["subscribe", "publish", "presence", "history"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
_VERBS: Final = {"subscribe": "subscribe to", "publish": "publish to", "presence": "see who is in", "history": "read back"}


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who a client is: ``user`` ("" when anonymous), and JSON ``info`` that others see in presence and publications.

    After ``expires_at`` (seconds since 1970; ``None``: never) a connection of the plain dialect is ended, to say it anew.
    """

    user: str = ""
    info: bytes | None = None
    expires_at: float | None = None


ANONYMOUS: Final = Identity()

_LOOPBACK: Final = re.compile(r"^(127\.0\.0\.1|\[::1\])(?=:|$)")
"""Other names of this machine: a page that was opened by one of them may connect by another."""

Authenticator = Callable[[HTTPConnection], Awaitable[Identity | str | None] | Identity | str | None]
"""Given the request: an identity, a user's name, or ``None`` for anonymous. Raises `heartwire.Unauthorized`."""

Permission = Callable[[Identity, Action, Channel], Awaitable[bool] | bool]
"""Whether somebody may do something in a channel; only ``True`` allows it. May raise `heartwire.Forbidden` with a message."""


async def resolved(answer: Any) -> Any:
    """What a sync or async function of the application answered."""
    return await answer if inspect.isawaitable(answer) else answer


async def identify(authenticate: Authenticator | None, request: HTTPConnection) -> Identity:
    """Ask the application who this is. Raises what the application raises."""
    if authenticate is None:
        return ANONYMOUS
    found = await resolved(authenticate(request))
    if isinstance(found, str):
        return Identity(found)
    return ANONYMOUS if found is None else found


def token_authenticator(tokens: "Tokens", clock: Callable[[], float], *, allow_anonymous: bool) -> Authenticator:
    """The authenticator of a hub that has token keys and no other: ``Authorization: Bearer``, ``?token=`` or ``?access_token=``."""

    def authenticate(request: HTTPConnection) -> Identity | None:
        token = token_of(request)
        if not token:
            if allow_anonymous:
                return None
            raise Unauthorized("no token: send Authorization: Bearer TOKEN, or ?token=TOKEN")
        claims = tokens.connection(token, clock())
        if isinstance(claims, Expired):
            raise Unauthorized(f"the token expired at {claims.expired_at:.0f}: get a new one")
        if isinstance(claims, Invalid):
            raise Unauthorized(f"the token is not valid: {claims.reason}")
        return Identity(claims.user, claims.info, claims.expires_at)

    return authenticate


def token_of(request: HTTPConnection) -> str:
    """The token that came with a request, "" where none did (RFC 6750 2)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    query = request.query_params
    return query.get("token") or query.get("access_token") or ""


class _Rule(NamedTuple):
    """What holds in one namespace. ``free``: what everybody may do there, whoever they are."""

    options: NamespaceOptions
    permission: Permission | None
    free: frozenset[Action]
    retention: Retention


class Namespaces:
    """Who may do what in which channel: options, names, and the application's permission functions.

    Attributes:
        knows_users: whether clients say who they are (by token, or to the application); else names limit nothing.
        asks_to_publish: whether the application looks at everything that clients publish (`Hub.on_publish`).
    """

    asks_to_publish = False

    def __init__(self, options: HubOptions) -> None:
        self._allow_unknown = options.allow_unknown_namespaces
        self._is_insecure = options.insecure
        self._asks_tokens = options.has_tokens
        self._private, self._boundary = options.channel_private_prefix, options.channel_user_boundary
        self._separator = options.channel_user_separator
        self._personal = options.user_personal_channel_namespace if options.user_subscribe_to_personal else None
        self.knows_users = options.has_tokens
        self._rules: dict[str, _Rule] = {}
        for name, given in ({"": NamespaceOptions()} | options.namespaces).items():
            self.configure(name, given, None)
        self._has_named = bool(self._rules.keys() - {""})

    def configure(self, name: str, options: NamespaceOptions, permission: Permission | None) -> None:
        """Set a namespace's options and its permission function."""
        free = frozenset(action for action in ACTIONS if permission is None and self._is_free(options, action))
        self._rules[name] = _Rule(options, permission, free, options.retention())
        self._has_named = bool(self._rules.keys() - {""})

    def of(self, channel: Channel) -> NamespaceOptions:
        """The options of a channel. Raises `UnknownChannel`."""
        return self._rule(channel).options

    def retention(self, channel: Channel) -> Retention:
        """How much of a channel is kept; the default's where its namespace is not configured any more."""
        return self._rules.get(self._name(channel), self._rules[""]).retention

    def personal(self, user: str) -> Channel | None:
        """The channel that a user's connections are to join, where personal channels are on and this user can have one."""
        if self._personal is None or not user or not self._boundary:
            return None
        if self._boundary in user or self._separator in user:
            return None  # its name would let other users in
        try:
            channel = to_channel(f"{self._personal}:{self._boundary}{user}" if self._personal else self._boundary + user)
            self.of(channel)
        except Refused:
            return None
        return channel

    def asks(self, channel: Channel, action: Action) -> bool:
        """Whether `authorize` has anything to say: else it allows the action at once. Raises `UnknownChannel`."""
        rule = self._rule(channel)
        if self.asks_to_publish and action == "publish":
            return True
        return action not in rule.free or bool(rule.options.channel_regex) or (self.knows_users and self._is_limited(channel))

    def asks_application(self, channel: Channel) -> bool:
        """Whether `authorize` calls a function of the application. Raises `UnknownChannel`."""
        return self._rule(channel).permission is not None

    def tells_members(self, channel: Channel) -> bool:
        """Whether joins and leaves are told; not where the channel's namespace is not configured any more."""
        return self._rules.get(self._name(channel), self._rules[""]).options.join_leave

    async def authorize(
        self, identity: Identity, action: Action, channel: Channel, *, is_subscriber: bool = False, has_token: bool = False
    ) -> None:
        """See that a client may do something.

        Args:
            is_subscriber: the client follows the channel, by permission.
            has_token: it has shown a subscription token for it that was found good.
        Raises:
            UnknownChannel, Forbidden, or Refused: ``bad_channel``, or ``not_available`` where presence is off.

        In this order: what is switched off is off for everybody; ``insecure`` and a subscription token allow the rest; then the
        channel's name, the options ``allow_...`` and the application's function all have to allow it.
        """
        rule = self._rule(channel)
        self._check_features(rule.options, action, channel)
        if self._is_insecure or has_token:
            return
        is_limited = self.knows_users and self._is_limited(channel)
        follows = is_subscriber and action != "subscribe"
        if is_limited and not follows and not self._is_let_in(identity, channel, rule.options):
            raise Forbidden(self._limit(identity, channel))
        is_granted = self._is_granted(rule.options, action, is_named=bool(identity.user), is_subscriber=is_subscriber or is_limited)
        if not is_granted and not (is_limited and action == "subscribe"):
            raise Forbidden(f"{_who(identity)} may not {_VERBS[action]} {channel!r} (allow_{action}_for_... in its namespace)")
        if rule.permission is not None and await resolved(rule.permission(identity, action, channel)) is not True:
            raise Forbidden(f"{_who(identity)} may not {_VERBS[action]} {channel!r}")

    # -- inside -------------------------------------------------------------------------------------------------------

    def _name(self, channel: Channel) -> str:
        """A channel's namespace; the prefix of private channels does not belong to it."""
        return namespace_of(channel.removeprefix(self._private) if self._private else channel)

    def _rule(self, channel: Channel) -> _Rule:
        name = self._name(channel)
        rule = self._rules.get(name)
        if rule is None:
            if not (self._allow_unknown or (self._allow_unknown is None and not self._has_named)):
                raise UnknownChannel(channel, name)
            return self._rules[""]
        return rule

    def _is_free(self, options: NamespaceOptions, action: Action) -> bool:
        is_off = (action == "publish" and not options.publish) or (action == "presence" and not options.presence)
        return not is_off and (self._is_insecure or self._is_granted(options, action, is_named=False, is_subscriber=False))

    def _is_granted(self, options: NamespaceOptions, action: Action, *, is_named: bool, is_subscriber: bool) -> bool:
        """What the options ``allow_...`` say of an action."""
        is_open = not self._asks_tokens
        for_anonymous = getattr(options, f"allow_{action}_for_anonymous")
        if not is_named and not (is_open if for_anonymous is None else for_anonymous):
            return False
        for_client = getattr(options, f"allow_{action}_for_client")
        for_subscriber = getattr(options, f"allow_{action}_for_subscriber", None)
        if for_client is None and for_subscriber is None:
            return is_open
        return bool(for_client or (for_subscriber and is_subscriber))

    def _is_limited(self, channel: Channel) -> bool:
        return bool(self._boundary and self._boundary in channel) or self._is_private(channel)

    def _is_private(self, channel: Channel) -> bool:
        return self._asks_tokens and bool(self._private) and channel.startswith(self._private)

    def _check_features(self, options: NamespaceOptions, action: Action, channel: Channel) -> None:
        if action == "publish" and not options.publish:
            raise Forbidden(f"clients may not publish to {channel!r} (publish = false in its namespace)")
        if action == "presence" and not options.presence:
            raise Refused("not_available", f"presence is off in {channel!r} (presence = false in its namespace)")
        if options.channel_regex and not re.search(options.channel_regex, channel.partition(":")[2] or channel):
            raise Refused("bad_channel", f"channel {channel!r} does not match {options.channel_regex!r} (channel_regex)")

    def _is_let_in(self, identity: Identity, channel: Channel, options: NamespaceOptions) -> bool:
        """Whether the name of a limited channel lists this user. That of a private channel lists nobody."""
        users = channel.rpartition(self._boundary)[2].split(self._separator)
        is_listed = options.allow_user_limited_channels and bool(identity.user) and identity.user in users
        return is_listed and not self._is_private(channel)

    def _limit(self, identity: Identity, channel: Channel) -> str:
        if self._is_private(channel):
            return f"channel {channel!r} is for those who have a subscription token (channel_private_prefix)"
        return f"channel {channel!r} is not for {_who(identity)} (channel_user_boundary)"


def _who(identity: Identity) -> str:
    return f"user {identity.user!r}" if identity.user else "an anonymous client"


def same_origin(origin: str, host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a browser page of ``origin`` may talk to us, who are called ``host`` (RFC 6454 4).

    The scheme is not compared: behind a proxy that ends TLS the page says https and we see http.
    """
    if origin in allowed or "*" in allowed:
        return True
    parts = urlsplit(origin)
    port = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    ours, theirs = (_LOOPBACK.sub("localhost", name.lower().removesuffix(port)) for name in (host, parts.netloc))
    return bool(theirs) and ours == theirs


class Connections:
    """Counts WebSockets, streams and held polls, on the node and by address; and lets the first two in by turns."""

    def __init__(self, options: HubOptions) -> None:
        self._limit = options.max_connections
        self._limit_per_address = options.max_connections_per_address
        self._by_address: dict[str, int] = {}
        self._rate_per_s = options.connects_per_s
        self._turns = Turns(self._rate_per_s, options.connects_burst, 0) if self._rate_per_s else None
        self.count = 0

    @property
    def window_s(self) -> float:
        """Over how long those who are here now would be let in, if they came anew; 0 where there are no turns."""
        return self.count / self._rate_per_s if self._rate_per_s else 0.0

    def turn_s(self, now: float) -> float:
        """One wants to come in: 0 where they may, else the seconds after which it is their turn."""
        return self._turns.take(now) if self._turns is not None else 0.0

    def admit(self, now: float) -> None:
        """The same as a refusal: raises `Refused` (``too_many_connects``)."""
        wait_s = self.turn_s(now)
        if wait_s:
            message = f"connects come faster than {self._rate_per_s:g} a second (connects_per_s)"
            raise Refused("too_many_connects", come_back(message, wait_s), after_s=wait_s)

    def enter(self, address: str) -> None:
        """Count one more. Raises `LimitExceeded` (``node_full``, ``too_many_connections``)."""
        if self.count >= self._limit:
            raise LimitExceeded("node_full", "connections on this node", self.count + 1, self._limit, "max_connections")
        mine = self._by_address.get(address, 0) + 1
        if self._limit_per_address and mine > self._limit_per_address:
            name = "max_connections_per_address"
            raise LimitExceeded("too_many_connections", f"connections from {address}", mine, self._limit_per_address, name)
        self.count += 1
        self._by_address[address] = mine

    def leave(self, address: str) -> None:
        """Count one less; for each `enter` that returned, once."""
        self.count -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


def come_back(reason: str, after_s: float) -> str:
    """A reason to end a connection, and when to come back, for clients that read it."""
    return f"{reason}; retry_after_ms={math.ceil(after_s * 1000)}"


def farewell(reason: str, window_s: float) -> str:
    """The same with a time drawn from a window, for those who are sent away together; without one where the window is 0."""
    return come_back(reason, random.uniform(0, window_s)) if window_s else reason


class Rates:
    """Token buckets of those who publish by POST, by address; those that are full again are forgotten."""

    def __init__(self, options: HubOptions) -> None:
        self._rate_per_s, self._burst = options.publish_rate_per_s, options.publish_burst
        self._buckets: dict[str, TokenBucket] = {}

    def bucket(self, now: float) -> TokenBucket | None:
        """A new bucket for one connection; ``None`` where there is no limit."""
        return TokenBucket(self._rate_per_s, self._burst, now) if self._rate_per_s else None

    def of(self, address: str, now: float) -> TokenBucket | None:
        """The bucket of an address; ``None`` where there is no limit."""
        bucket = self._buckets.get(address)
        if bucket is None and self._rate_per_s:
            bucket = self._buckets[address] = TokenBucket(self._rate_per_s, self._burst, now)
        return bucket

    def check(self, address: str, now: float) -> None:
        """Take one token of an address. Raises `Refused` (``too_many_requests``)."""
        bucket = self.of(address, now)
        if bucket is not None:
            take(bucket, now)

    def sweep(self, now: float) -> None:
        """Forget the buckets that are full again."""
        full_after_s = self._burst / self._rate_per_s if self._rate_per_s else 0
        self._buckets = {address: bucket for address, bucket in self._buckets.items() if now - bucket.taken_at < full_after_s}


def take(bucket: TokenBucket, now: float) -> None:
    """Take a token. Raises `Refused` (``too_many_requests``) that says when the next one comes."""
    if not bucket.take(now):
        limit = f"{bucket.rate_per_s:g} a second, {bucket.burst:g} at once (publish_rate_per_s, publish_burst)"
        raise Refused("too_many_requests", f"messages come faster than {limit}", after_s=bucket.wait_s)
