"""Who is this, and may they do that: identities, namespaces, origins, connection and rate limits."""

import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec
from starlette.requests import HTTPConnection

from heartwire.core.limits import TokenBucket
from heartwire.dialects.plain import namespace_of
from heartwire.engines.base import Retention
from heartwire.errors import Forbidden, LimitExceeded, Refused, UnknownChannel
from heartwire.server.options import HubOptions, NamespaceOptions
from heartwire.types import Channel

__all__ = [
    "ANONYMOUS",
    "Action",
    "Authenticator",
    "Connections",
    "Identity",
    "Namespaces",
    "Permission",
    "Rates",
    "identify",
    "same_origin",
    "take",
]

Action = Literal["subscribe", "publish", "presence"]


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who a client is: ``user`` ("" when anonymous), and JSON ``info`` that others see in presence and publications."""

    user: str = ""
    info: bytes | None = None


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


class Namespaces:
    """The options and the permission function of every channel."""

    def __init__(self, options: HubOptions) -> None:
        self._options = dict(options.namespaces)
        self._allow_unknown = options.allow_unknown_namespaces
        self._permissions: dict[str, Permission] = {}
        self._default = self._options.get("", NamespaceOptions())
        self._retentions = {"": self._default.retention()} | {name: given.retention() for name, given in self._options.items()}

    def configure(self, name: str, options: NamespaceOptions, permission: Permission | None) -> None:
        """Set a namespace's options and its permission function."""
        self._options[name] = options
        self._retentions[name] = options.retention()
        if name == "":
            self._default = options
        if permission is not None:
            self._permissions[name] = permission

    def of(self, channel: Channel) -> NamespaceOptions:
        """The options of a channel. Raises `UnknownChannel`."""
        name = namespace_of(channel)
        if not name:
            return self._default
        options = self._options.get(name)
        if options is None:
            if not (self._allow_unknown or (self._allow_unknown is None and not self._options.keys() - {""})):
                raise UnknownChannel(channel, name)
            return self._default
        return options

    def retention(self, channel: Channel) -> Retention:
        """How much of a channel is kept; the default's where its namespace is not configured any more."""
        return self._retentions.get(namespace_of(channel)) or self._retentions[""]

    def asks(self, channel: Channel, action: Action) -> bool:
        """Whether `authorize` has anything to say: else it allows the action at once. Raises `UnknownChannel`."""
        options = self.of(channel)
        if namespace_of(channel) in self._permissions:
            return True
        return (action == "publish" and not options.publish) or (action == "presence" and not options.presence)

    async def authorize(self, identity: Identity, action: Action, channel: Channel) -> None:
        """Raises `UnknownChannel`, `Forbidden`, or ``not_available`` where the feature is off."""
        options = self.of(channel)
        if action == "publish" and not options.publish:
            raise Forbidden(f"clients may not publish to {channel!r} (publish = false in its namespace)")
        if action == "presence" and not options.presence:
            raise Refused("not_available", f"presence is off in {channel!r} (presence = false in its namespace)")
        permission = self._permissions.get(namespace_of(channel))
        if permission is not None and await resolved(permission(identity, action, channel)) is not True:
            raise Forbidden(f"{identity.user or 'anonymous'!r} may not {action} in {channel!r}")


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
    """Counts WebSockets, streams and held polls, on the node and by address."""

    def __init__(self, options: HubOptions) -> None:
        self._limit = options.max_connections
        self._limit_per_address = options.max_connections_per_address
        self._by_address: dict[str, int] = {}
        self.count = 0

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


class Rates:
    """Token buckets of those who publish by POST, by address; those that are full again are forgotten."""

    def __init__(self, options: HubOptions) -> None:
        self._rate_per_s, self._burst = options.publish_rate_per_s, options.publish_burst
        self._buckets: dict[str, TokenBucket] = {}

    def bucket(self, now: float) -> TokenBucket | None:
        """A new bucket for one connection; ``None`` where there is no limit."""
        return TokenBucket(self._rate_per_s, self._burst, now) if self._rate_per_s else None

    def check(self, address: str, now: float) -> None:
        """Take one token of an address. Raises `Refused` (``too_many_requests``)."""
        if not self._rate_per_s:
            return
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = TokenBucket(self._rate_per_s, self._burst, now)
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
