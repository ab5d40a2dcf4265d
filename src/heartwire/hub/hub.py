"""The hub: what a Python program holds. One engine, one switchboard, and the application's say in who may do
what."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

import msgspec

from heartwire.channels import to_channel
from heartwire.codes import CODES
from heartwire.core.deadlines import Deadline, Deadlines
from heartwire.core.link import Link, WireFormat
from heartwire.core.liveness import Liveness, Watched
from heartwire.core.subscription import ChannelListener, Subscription
from heartwire.core.switchboard import ReadResult, Switchboard
from heartwire.core.waiting import settled
from heartwire.dialects.centrifugal import SessionSettings
from heartwire.engines.contract import Engine
from heartwire.engines.registry import open_engine
from heartwire.errors import HeartwireError, LimitExceeded
from heartwire.hub import signals
from heartwire.hub.admission import Admission, Rates, drain_reason
from heartwire.hub.background import Upkeep
from heartwire.hub.hooks import ConnectHook, DisconnectHook, Hooks, PublishHook, RpcHook
from heartwire.hub.identity import Authenticator, Identity, token_authenticator
from heartwire.hub.namespaces import Namespaces, Permission
from heartwire.hub.options import HubOptions, NamespaceOptions
from heartwire.hub.sessions import Sessions
from heartwire.messages import Body, to_body
from heartwire.server.app import Application
from heartwire.server.centrifugal.port import HubPort
from heartwire.types import Channel, Member, Message, Position, Publisher, Start

if TYPE_CHECKING:
    from heartwire.hub.tokens import Tokens

__all__ = ["Hub", "ServedLink", "WatchedLink"]

log = logging.getLogger("heartwire")

LINGERING_TOPICS: Final = 1024

PermissionT = TypeVar("PermissionT", bound=Permission)
AuthenticatorT = TypeVar("AuthenticatorT", bound=Authenticator)
ConnectHookT = TypeVar("ConnectHookT", bound=ConnectHook)
DisconnectHookT = TypeVar("DisconnectHookT", bound=DisconnectHook)
PublishHookT = TypeVar("PublishHookT", bound=PublishHook)
RpcHookT = TypeVar("RpcHookT", bound=RpcHook)


class ServedLink(Link, Protocol):
    """What a transport gives the hub for each connection."""

    subscriptions: list[Subscription]


class WatchedLink(ServedLink, Watched, Protocol):
    """One that lasts."""

    @property
    def backlog_bytes(self) -> int:
        """About how much of what was written waits in this process."""


class _Expiry:
    """What is to happen to a link when its identity does not hold any more."""

    def __init__(self, link: ServedLink) -> None:
        self._link = link

    def handle_deadline(self, now: float) -> None:
        code = CODES["connection_expired"]
        self._link.close(code.close_code, f"{code.reason}: come back with a new token")


class Hub:
    """Channels for one program.

    Args:
        engine: "memory://" (streams are gone with the process), "sqlite:///FILE" (four slashes: absolute
            path; ``?synchronous=full`` survives power cuts), or an `Engine`.
        **options: see `HubOptions`.
    Raises:
        ConfigError: an option that is not there, or a value out of range.

    The hub starts with its ASGI application's lifespan, with ``async with hub.lifespan(app)``, or with the
    first request. It belongs to one event loop.
    """

    def __init__(self, engine: str | Engine = "memory://", **options: Any) -> None:
        self.options = options.pop("_options", None) or _options(options)
        self.engine: Engine = open_engine(engine) if isinstance(engine, str) else engine
        self.namespaces = Namespaces(self.options)
        self.connections = Admission(self.options)
        self.rates = Rates(self.options)
        self.uploads: set[asyncio.Timeout] = (
            set()
        )  # requests whose body has not all come; they end when we do
        self.wall_clock: Callable[[], float] = time.time
        self.tokens = _tokens(self.options)
        self.authenticator: Authenticator | None = None
        if self.tokens is not None:
            allow_anonymous = self.options.allow_anonymous or self.options.insecure
            self.authenticator = token_authenticator(
                self.tokens, self.wall_clock, allow_anonymous=allow_anonymous
            )
        self.draining = False
        self.upkeep = Upkeep(self)
        self.switchboard = Switchboard(read=self.upkeep.read, soon=self._soon, lingering=LINGERING_TOPICS)
        self.links: dict[ServedLink, None] = {}  # a set in order, and a third of its size
        self._expiries: dict[ServedLink, Deadline] = {}
        self.hooks = Hooks()
        self.deadlines = Deadlines()
        self.sessions = Sessions()
        self.port = HubPort(self)
        self.session_settings = _session_settings(self.options)
        self.node = secrets.token_hex(4)
        self._serial = 0
        self._starting: asyncio.Future[None] | None = None
        self.clock: Callable[[], float] = time.monotonic

    # -- for the application ---------------------------------------------------------------------------------

    async def publish(
        self,
        channel: str,
        data: object,
        *,
        idempotency_key: str | None = None,
        publisher: Publisher | None = None,
    ) -> Position:
        """Publish ``data`` (bytes; str: text; else written as JSON) and return its position.

        Raises:
            Refused: ``bad_channel``, ``unknown_channel``, ``message_too_large``.
            EngineUnavailable: nothing was published; try again.
            TypeError: ``data`` cannot be written as JSON.

        Promises: kept by the engine when it returns; applied once per ``idempotency_key`` within
        ``idempotency_window_s``; calls of one task are applied in order; a call that is cancelled may still
        be applied.
        """
        await self.ensure_started()
        body = to_body(data)
        return await settled(self.append(to_channel(channel), body, publisher, key=idempotency_key))

    async def remove_history(self, channel: str) -> Position:
        """Forget what is kept of a channel, and return the position after it: readers who were behind are
        told of a gap."""
        await self.ensure_started()
        checked = to_channel(channel)
        position = await settled(self.engine.remove(checked))
        self.switchboard.forget(checked)
        return position

    def authenticate(self, function: AuthenticatorT) -> AuthenticatorT:
        """Decorator: the function that tells who a request is from. See `Authenticator`. It replaces the one
        for tokens."""
        self.authenticator = function
        self.namespaces.knows_users = True
        return function

    def namespace(self, name: str, **options: Any) -> Callable[[PermissionT], PermissionT]:
        """Configure a namespace ("" for channels without a ``:``); see `NamespaceOptions`.

        As a decorator, the function is asked for each action of a client: see `Permission`.
        """
        configured = _convert(options, NamespaceOptions, f"namespace {name!r}")
        self.namespaces.configure(name, configured, None)

        def decorate(function: PermissionT) -> PermissionT:
            self.namespaces.configure(name, configured, function)
            return function

        return decorate

    def rpc(self, name: str) -> Callable[[RpcHookT], RpcHookT]:
        """Decorator: the function that answers calls of ``name``, given the `Client` and what it sent,
        parsed.

        What it returns is the answer: bytes as they are, anything else as JSON. See `heartwire.hub.hooks` for
        errors.
        """

        def decorate(function: RpcHookT) -> RpcHookT:
            self.hooks.rpc[name] = function
            return function

        return decorate

    def on_connect(self, function: ConnectHookT) -> ConnectHookT:
        """Decorator: called with each `Client` that connects, before it is told so.

        What it returns is the ``data`` of the answer; `Client.subscribe` adds a server-side subscription to
        it; raising `Unauthorized`, `Forbidden` or another `Refused` keeps the client out.
        """
        self.hooks.connect = function
        return function

    def on_disconnect(self, function: DisconnectHookT) -> DisconnectHookT:
        """Decorator: called with each `Client` that was connected and now is gone, and the `Disconnect` that
        says why."""
        self.hooks.disconnect = function
        return function

    def on_publish(self, function: PublishHookT) -> PublishHookT:
        """Decorator: called before what a client publishes is kept, with its `Identity`, the channel and the
        data as bytes.

        Returning ``None`` keeps the data, anything else replaces it (as `publish` takes it); raising
        `Forbidden` or another `Refused` refuses it. It is called for every dialect and transport, and not for
        `publish`.
        """
        self.hooks.publish = function
        self.namespaces.asks_to_publish = True
        return function

    def on_message(self, function: RpcHookT) -> RpcHookT:
        """Decorator: called with the `Client` and what it sent by ``send``, which has no answer."""
        self.hooks.message = function
        return function

    def asgi(self, *, demo: bool = False) -> Application:
        """The hub's addresses as an ASGI application, to be served or mounted anywhere. ``demo``: with the
        demo page at ``/``."""
        return Application(self, demo=demo)

    def websocket_class(self, prefix: str = "") -> type:
        """The class for uvicorn's ``ws=`` setting: the native door for WebSockets, several times as fast as
        ASGI.

        ``prefix`` is where `asgi` is mounted; WebSockets of all other paths go where they went before.

            uvicorn.run(app, ws=hub.websocket_class("/realtime"))
        """
        from heartwire.server.native import HubDoor  # uvicorn is imported only where it is used
        from heartwire.transports.websocket.native import native_protocol

        return native_protocol(HubDoor(self, prefix))

    def http_class(self) -> type:
        """The class for uvicorn's ``http=`` setting where `asgi` is the whole application: quicker polls and
        publishes."""
        from heartwire.server.plain.fast_path import QuickDoor  # uvicorn is imported only where it is used
        from heartwire.transports.http.front import front_protocol

        return front_protocol(QuickDoor(self))

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Start, and at the end drain and stop. Fits the ``lifespan=`` of Starlette and FastAPI.

        On SIGINT and SIGTERM open polls, streams and sockets are ended at once, so that the server's own
        shutdown need not wait.
        """
        await self.start()
        try:
            with signals.heard(asyncio.get_running_loop(), self.drain):
                yield
        finally:
            await self.stop()

    # -- start and stop --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the engine. Idempotent. Raises `EngineError` where it cannot be opened."""
        if self._starting is None:
            self.loop = asyncio.get_running_loop()
            self._starting = self.loop.create_future()
            try:
                await self.engine.start(self.switchboard.notify)
            except BaseException:
                self._starting.cancel()
                self._starting = None
                raise
            options = self.options
            now = self.clock()
            bound = {"pong_timeout_s": options.pong_timeout_s, "now": now}
            self.liveness = Liveness(ping_interval_s=options.ping_interval_s, **bound)
            # Streams are promised both: a heartbeat as often as they ask for, and a dead peer noticed in
            # time.
            stream_interval_s = min(options.sse_heartbeat_s, options.ping_interval_s)
            self.stream_liveness = Liveness(
                ping_interval_s=max(stream_interval_s, options.pong_timeout_s * 1.1), **bound
            )
            self.upkeep.start()
            self._starting.set_result(None)
        await asyncio.shield(self._starting)

    @property
    def is_started(self) -> bool:
        """Whether `start` has returned."""
        return self._starting is not None and self._starting.done()

    async def ensure_started(self) -> None:
        """`start`, but quick where it has been done."""
        if not self.is_started:
            await self.start()

    def drain(self) -> None:
        """End every connection with ``shutdown``, and refuse new ones from now on. Safe from the event loop's
        thread.

        All end at once, so that the program can; what is paced is their coming back, at the rate of
        ``connects_per_s``.
        """
        self.draining = True
        self.switchboard.flush()
        window_s = self.connections.window_s  # as long as they are counted
        self.sessions.drain(window_s)
        for link in tuple(self.links):
            link.close(1012, drain_reason("shutdown: come back after a moment", window_s))
        uploads, self.uploads = self.uploads, set()
        for upload in uploads:
            upload.reschedule(0)

    async def stop(self) -> None:
        """Drain, and close the engine once what was accepted is stored. Idempotent."""
        if self._starting is None:
            return
        self.drain()
        self._starting = None
        await self.upkeep.stop()
        await self.engine.stop()

    # -- for the transports ----------------------------------------------------------------------------------

    def serial(self) -> int:
        """A number for a link, never given twice on this node."""
        self._serial += 1
        return self._serial

    def client_id(self, serial: int) -> str:
        """The name of a connection, unique among nodes; not a secret."""
        return f"{self.node}-{serial:x}"

    def append(
        self,
        channel: Channel,
        body: Body,
        publisher: Publisher | None = None,
        *,
        key: str | None = None,
        origin: int = 0,
    ) -> Position | asyncio.Future[Position]:
        """Check and append. Raises `UnknownChannel`, `LimitExceeded`, or at once or later
        `EngineUnavailable`."""
        self.namespaces.of(channel)
        size = len(body.data)
        if size > self.options.max_message_bytes:
            limit = self.options.max_message_bytes
            raise LimitExceeded(
                "message_too_large", "bytes of this message", size, limit, "max_message_bytes"
            )
        message = Message(body.data, body.is_text, publisher, origin)
        keep = self.namespaces.retention(channel)
        return self.engine.append(
            channel, message, keep, key=key, key_ttl_s=self.options.idempotency_window_s
        )

    def read(
        self, channel: Channel, start: Start, *, limit: int, max_bytes: int
    ) -> ReadResult | asyncio.Future[ReadResult]:
        """`Engine.read` with the channel's retention."""
        return self.engine.read(
            channel, start, self.namespaces.retention(channel), limit=limit, max_bytes=max_bytes
        )

    async def changed(self, identity: Identity, channel: Channel, body: Body) -> Body:
        """What the application makes of what a client publishes. Raises `Refused`."""
        if self.hooks.publish is None:
            return body
        try:
            changed = self.hooks.call_publish(identity, channel, body)
            return changed if isinstance(changed, Body) else await changed
        except HeartwireError:
            raise
        except Exception as error:
            log.exception("on_publish failed for channel %r", channel)
            raise HeartwireError("internal server error: the server's log has the details") from error

    def follow(
        self,
        link: ServedLink,
        channel: Channel,
        format: WireFormat,
        start: Start,
        *,
        echo: bool = True,
        listener: ChannelListener | None = None,
    ) -> None:
        """Let a link follow a channel, and be seen there where presence is on. Undone by `unfollow_one` or
        `unfollow`."""
        options = self.namespaces.of(channel)
        member = link.member if listener is None else listener.member
        if member is not None and options.presence:
            self.engine.lease(channel, member, self.lease_s)
        subscription = self.switchboard.follow(link, channel, format, start, echo=echo, listener=listener)
        link.subscriptions.append(subscription)
        if listener is not None:
            listener.live(subscription)
        if options.join_leave and member is not None:
            self._announce(channel, "join", member)

    def unfollow_one(self, link: ServedLink, subscription: Subscription) -> None:
        """The link leaves one channel."""
        with contextlib.suppress(ValueError):
            link.subscriptions.remove(subscription)
        self._leave(subscription)

    def enter(self, link: ServedLink, identity: Identity) -> None:
        """A connection of the plain dialect is open, as long as its identity holds. Undone by `unfollow`."""
        self.links[link] = None
        if identity.expires_at is not None:
            when = self.clock() + identity.expires_at - self.wall_clock()
            self._expiries[link] = self.deadlines.at(when, _Expiry(link))

    def unfollow(self, link: ServedLink) -> None:
        """The link is gone: from its channels, and from their presence."""
        self.links.pop(link, None)
        expiry = self._expiries.pop(link, None)
        if expiry is not None:
            expiry.cancel()
        for subscription in link.subscriptions:
            self._leave(subscription)

    def _leave(self, subscription: Subscription) -> None:
        channel, member = subscription.topic.channel, subscription.member
        self.switchboard.leave(subscription)
        if member is not None:
            self.engine.release(channel, member.client)
            if self.namespaces.tells_members(channel):
                self._announce(channel, "leave", member)

    def _announce(self, channel: Channel, kind: Literal["join", "leave"], member: Member) -> None:
        """Tell the channel's followers on this node who has come or gone."""
        topic = self.switchboard.topics.get(channel)
        if topic is None:
            return
        made: dict[Any, Any] = {}
        for subscription in tuple(topic.subscriptions):
            if subscription.listener is not None:
                subscription.listener.hear(kind, member, made)

    def member(self, serial: int, identity: Identity) -> Member:
        """How a connection is listed in presence."""
        return Member(self.client_id(serial), identity.user, identity.info)

    @property
    def lease_s(self) -> float:
        """A lease outlives a missed renewal; a crashed node's members are gone after it."""
        return self.options.ping_interval_s + self.options.pong_timeout_s

    def _soon(self, work: Callable[[], None]) -> None:
        self.loop.call_soon(work)


StructT = TypeVar("StructT", bound=msgspec.Struct)


def _session_settings(options: HubOptions) -> SessionSettings:
    return SessionSettings(
        version=f"Heartwire {version('heartwire')}",
        ping_interval_s=options.ping_interval_s,
        max_channels=options.max_channels_per_connection,
        publish_rate_per_s=options.publish_rate_per_s,
        publish_burst=options.publish_burst,
    )


def _options(options: dict[str, Any]) -> HubOptions:
    return _convert(options, HubOptions, "Hub")


def _tokens(options: HubOptions) -> "Tokens | None":
    if not options.has_tokens:
        return None
    from heartwire.hub.tokens import Tokens  # PyJWT and cryptography are imported only where they are used

    return Tokens(options)


def _convert(options: dict[str, Any], kind: type[StructT], where: str) -> StructT:
    from heartwire.server.config import convert  # here, because config knows the whole server

    return convert(options, kind, where)
