"""One connection of the Centrifugal dialect, on whatever transport: what the session writes to, and what a
transport feeds."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, Literal

from heartwire.dialects.centrifugal import ClientSubscription, PushFormat, Session
from heartwire.hub.identity import ANONYMOUS, Identity
from heartwire.types import Channel, Member, Position, Publisher

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub, WatchedLink

__all__ = ["Connection", "HubSession"]

MAX_IN_FLIGHT: Final = 64
"""Publishes of one connection that wait for the engine; over that its commands wait too."""

_CLOSE_WITHIN_S: Final = 5


class HubSession(Session):
    """A session of this server: its outlet is a `Connection`."""

    __slots__ = ()

    outlet: "Connection"


class Connection:
    """One connection of the dialect: the session's `Outlet`, and what a transport gives messages to.

    Args:
        link: the transport's.
        format: its wire format.
        address: the peer's, for limits.
        scope: the request that opened it, as ASGI has it; the port takes it at `connect`.
        emulation, pong: see `Session`.
    Raises:
        LimitExceeded: there are too many connections.
    """

    is_stateless = False
    """Whether it is one request, which reads what it subscribes to, is answered and gone."""
    session_class: type[HubSession] = HubSession

    __slots__ = (
        "_address",
        "_format",
        "_hub",
        "_in_flight",
        "identity",
        "link",
        "publisher",
        "scope",
        "session",
    )

    def __init__(
        self,
        hub: "Hub",
        link: "WatchedLink",
        format: PushFormat,
        *,
        address: str,
        scope: dict[str, Any],
        emulation: tuple[str, str] = ("", ""),
        pong: bool = True,
    ) -> None:
        hub.connections.enter(address)
        self._address = address
        self._hub = hub
        self._format = format
        self._in_flight: deque[asyncio.Future[Any]] | None = None
        self.link = link
        self.identity = ANONYMOUS
        self.publisher: Publisher | None = None
        self.scope: dict[str, Any] | None = scope
        self.session = self.session_class(
            hub.port,
            format.codec,
            self,
            hub.session_settings,
            client=hub.client_id(link.serial),
            now=hub.clock(),
            emulation=emulation,
            pong=pong,
        )
        hub.sessions.connections[self] = None

    # -- for the transport -----------------------------------------------------------------------------------

    def receive(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """A message came in. Returns what to wait for before the next one is given, where there is a need to
        wait."""
        limit = self._hub.options.max_message_bytes
        if len(data) > limit:  # over ASGI; the native door does not let it in
            self.session.disconnect(
                "message_too_large", f"a message is over the limit of {limit} bytes (max_message_bytes)"
            )
            return None
        return self.session.receive(data, self._hub.clock())

    def lost(self) -> None:
        """The connection is gone. To be called once."""
        self._hub.connections.leave(self._address)
        self._hub.sessions.connections.pop(self, None)
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
    def backlog_bytes(self) -> int:
        """See `Outlet.backlog_bytes`."""
        return self.link.backlog_bytes

    def write(self, messages: list[bytes]) -> None:
        """See `Outlet.write`."""
        self._write(self._format.pack(messages))

    def _write(self, payload: Any) -> None:
        with contextlib.suppress(
            RuntimeError
        ):  # uvloop's word for a socket that broke a moment ago; it is on its way out
            self.link.write(payload)

    def announce(
        self, channel: Channel, kind: Literal["join", "leave"], member: Member, made: dict[Any, Any]
    ) -> None:
        """See `Outlet.announce`."""
        payload = made.get(self._format)
        if payload is None:
            payload = made[self._format] = self._format.membership(channel, kind, member)
        self.session.relay(payload, self._write)

    def close(self, code: int, reason: str) -> None:
        """See `Outlet.close`. A peer that takes nothing is not waited for for ever."""
        self.link.close(code, reason)
        if self.link.paused:
            self._hub.loop.call_later(_CLOSE_WITHIN_S, self.link.give_up)

    def give_up(self) -> None:
        """See `Outlet.give_up`."""
        self.link.give_up()

    # -- for the port ----------------------------------------------------------------------------------------

    def become(self, identity: Identity) -> None:
        """Who it is, is known."""
        self.identity = identity
        self.publisher = Publisher(identity.user, self.session.client, identity.info)

    def follow(self, follower: ClientSubscription, start: Position) -> None:
        """See `Port.follow`."""
        self._hub.follow(self.link, follower.channel, self._format, start, listener=follower)

    def pipeline(self, answer: "asyncio.Future[Any]") -> Awaitable[None] | None:
        """Let the engine take its time, but not for any number of publishes."""
        waiting = self._in_flight
        if waiting is None:
            waiting = self._in_flight = deque()
        waiting.append(answer)
        while waiting and waiting[0].done():
            waiting.popleft()
        return _done(waiting.popleft()) if len(waiting) > MAX_IN_FLIGHT else None


async def _done(answer: "asyncio.Future[Any]") -> None:
    await asyncio.wait([answer])
