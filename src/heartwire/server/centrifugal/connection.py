"""One connection of the Centrifugal dialect, on whatever transport.

In: messages, from the transport. Out: payloads in a wire format, to the transport's link. It is the session's
`Outlet`, the hub's `Connection`, and the `Author` of its publishes.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple, TypeAlias

from starlette.types import Scope

from heartwire.codes import CODES
from heartwire.core.limits import TokenBucket
from heartwire.dialects.centrifugal import (
    ClientSubscription,
    Phase,
    Port,
    PushFormat,
    Session,
    SessionSettings,
)
from heartwire.engines.contract import Retention
from heartwire.hub.admission import with_retry_after
from heartwire.hub.connections import Connection
from heartwire.hub.identity import ANONYMOUS, Identity
from heartwire.hub.links import WatchedLink
from heartwire.hub.node import Node
from heartwire.messages import message_too_large
from heartwire.types import Channel, Member, Position, Publisher, ServerSubscription

__all__ = ["CentrifugalConnection", "HubSession", "ScopeOf", "SessionContext"]


class HubSession(Session):
    """A session of this server: its outlet is a `CentrifugalConnection`."""

    __slots__ = ()

    outlet: "CentrifugalConnection"


class SessionContext(NamedTuple):
    """What the sessions of one node share."""

    node: Node
    port: Port[HubSession, ClientSubscription]
    settings: SessionSettings


ScopeOf: TypeAlias = Callable[[], Scope]


class CentrifugalConnection(Connection):
    """See the module.

    Args:
        link: the transport's.
        format: its wire format.
        transport, address: see `Connection`.
        scope: makes the request that opened it, as ASGI has it; the port takes it at `connect`.
        session_id: the secret of emulation requests, where commands come by them.
        pong: see `Session`.
    Raises:
        LimitExceeded: there are too many connections.
    """

    dialect = "centrifugal"
    can_subscribe = True
    free: Retention | None = None
    is_stateless = False
    """Whether it is one request, which reads its subscriptions, is answered and gone."""
    session_class: type[HubSession] = HubSession

    __slots__ = (
        "_format",
        "_node",
        "address",
        "bucket",
        "identity",
        "in_flight",
        "link",
        "publisher",
        "scope",
        "serial",
        "session",
        "session_id",
        "since",
        "transport",
    )

    def __init__(
        self,
        context: SessionContext,
        link: WatchedLink,
        format: PushFormat,
        transport: str,
        *,
        address: str,
        scope: ScopeOf,
        session_id: str = "",
        pong: bool = True,
    ) -> None:
        node = self._node = context.node
        self._format = format
        self.address = address
        self.identity = ANONYMOUS
        self.in_flight: deque[asyncio.Future[Position]] | None = None
        self.link = link
        self.publisher: Publisher | None = None
        self.scope: ScopeOf | None = scope
        self.serial = link.serial
        self.session_id = session_id
        self.since = now = node.clocks.monotonic()
        self.transport = transport
        self.bucket: TokenBucket | None = node.rates.bucket(now)
        node.connections.add(self)
        emulation = (session_id, node.connections.node_id) if session_id else ("", "")
        self.session = self.session_class(
            context.port,
            format.codec,
            self,
            context.settings,
            client=self.id,
            now=now,
            emulation=emulation,
            pong=pong,
        )

    # -- for the transport -----------------------------------------------------------------------------------

    def opened(self) -> None:
        """See `OpenHandler.opened`."""

    def receive(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """A message came in. Returns what to wait for before the next one, where there is a need to wait."""
        session = self.session
        limit = session.settings.max_frame_bytes
        if len(data) > limit:  # over ASGI; the native door does not let it in
            session.disconnect("message_too_large", str(message_too_large(len(data), limit)))
            return None
        return session.receive(data, self._node.clocks.monotonic())

    def lost(self) -> None:
        """The connection is gone. To be called once."""
        self._node.connections.remove(self)
        self.session.lost()

    # -- for the session: see Outlet -------------------------------------------------------------------------

    @property
    def heard(self) -> bool:
        """See `Outlet.heard`."""
        return self.link.heard

    @heard.setter
    def heard(self, value: bool) -> None:
        self.link.heard = value

    @property
    def paused(self) -> bool:
        """See `Outlet.paused`."""
        return self.link.paused

    @property
    def takes(self) -> bool:
        """See `Outlet.takes`."""
        return self.link.takes

    def look(self) -> None:
        """See `Outlet.look`."""
        self.link.ping()

    def drained(self) -> Awaitable[None]:
        """See `Outlet.drained`."""
        return self.link.drained()

    def write(self, messages: list[bytes]) -> bool:
        """See `Outlet.write`."""
        return self._write(self._format.pack(messages))

    def _write(self, payload: Any) -> bool:
        link = self.link
        try:
            link.write(payload)
        except RuntimeError:  # uvloop's word for a socket that broke a moment ago
            pass
        return not link.closed

    def announce(
        self, channel: Channel, kind: Literal["join", "leave"], member: Member, made: dict[Any, Any]
    ) -> None:
        """See `Outlet.announce`."""
        payload = made.get(self._format)
        if payload is None:
            payload = made[self._format] = self._format.membership(channel, kind, member)
        self.session.relay(payload, self._write)

    def close(self, code: int, reason: str) -> None:
        """See `Outlet.close`."""
        self.link.close(code, reason)

    def give_up(self) -> None:
        """See `Outlet.give_up`."""
        self.link.give_up()

    # -- for the port ----------------------------------------------------------------------------------------

    def become(self, identity: Identity) -> None:
        """Set the identity, once it is known."""
        self.identity = identity
        self.publisher = Publisher(identity.user, self.session.client, identity.info)

    def follow(self, subscription: ClientSubscription, start: Position) -> None:
        """See `Port.follow`."""
        follow = self._node.presence.follow
        follow(self.link, subscription.channel, self._format, start, listener=subscription)

    def follows(self, channel: Channel) -> bool:
        """See `Author.follows`: subscribed, and not only asking to be."""
        subscription = self.session.subs.get(channel)
        return subscription is not None and (subscription.subscription is not None or self.is_stateless)

    # -- for the hub: see Connection -------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """See `Connection.id`."""
        return self._node.connections.id_of(self.serial)

    @property
    def channels(self) -> list[str]:
        """See `Connection.channels`."""
        return list(self.session.subs)

    @property
    def is_open(self) -> bool:
        """See `Connection.is_open`."""
        return self.session.phase is Phase.OPEN

    def send(self, data: bytes) -> None:
        """See `Connection.send`."""
        self.session.message(data)

    def subscribe(self, subscription: ServerSubscription) -> Awaitable[None] | None:
        """See `Connection.subscribe`."""
        return self.session.subscribe(subscription)

    def unsubscribe(self, channel: str, code: int, reason: str) -> bool:
        """See `Connection.unsubscribe`."""
        return self.session.unsubscribe(channel, code, reason)

    def refresh(self, ttl_s: float | None) -> None:
        """See `Connection.refresh`."""
        self.session.refreshed(ttl_s)

    def disconnect(self, code: int, reason: str) -> None:
        """See `Connection.disconnect`."""
        self.session.disconnect_with(code, reason)

    def drain(self, after_s: float) -> None:
        """See `Connection.drain`."""
        self.session.disconnect("going_away", with_retry_after(CODES["going_away"].reason, after_s))
