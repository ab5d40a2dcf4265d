"""The hub: what a Python program holds."""

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar, Unpack

from starlette.types import ASGIApp

from heartwire.channels import to_channel
from heartwire.engines.contract import Engine
from heartwire.engines.registry import open_engine
from heartwire.hub.conversion import convert
from heartwire.hub.hooks import ConnectHook, DisconnectHook, PublishHook, RpcHook
from heartwire.hub.identity import Authenticator
from heartwire.hub.namespaces import Permission
from heartwire.hub.node import Node
from heartwire.hub.options import HubArguments, HubOptions, NamespaceArguments, NamespaceOptions
from heartwire.hub.streaming import HubStreams
from heartwire.hub.threads import off_loop
from heartwire.messages import to_body
from heartwire.types import Position, Publisher

__all__ = ["Hub"]

PermissionT = TypeVar("PermissionT", bound=Permission)
AuthenticatorT = TypeVar("AuthenticatorT", bound=Authenticator)
ConnectHookT = TypeVar("ConnectHookT", bound=ConnectHook)
DisconnectHookT = TypeVar("DisconnectHookT", bound=DisconnectHook)
PublishHookT = TypeVar("PublishHookT", bound=PublishHook)
RpcHookT = TypeVar("RpcHookT", bound=RpcHook)


class Hub(HubStreams):
    """Channels for one program: one engine, its clients, and the application's rules for them.

    Args:
        engine: "memory://" (streams end with the process), "sqlite:///FILE" (four slashes: absolute path;
            ``?synchronous=full`` survives power cuts; ``?shared=yes``: several processes share either), or an
            `Engine`.
        options: a complete `HubOptions`, in place of keyword arguments.
        **arguments: fields of `HubOptions`, which documents them.
    Raises:
        ConfigError: an unknown option, or a value out of range.

    Attributes:
        engine_url: ``engine``, where that is a URL.

    The hub starts with its ASGI application's lifespan, with ``async with hub.lifespan(app)``, or with the
    first request. Its connections belong to that event loop; `publish` works from any. After `stop` it may be
    started again, in any loop: a memory engine still has its streams.

    Functions given to it that are not ``async def`` run in threads, so they may block.
    """

    def __init__(
        self,
        engine: str | Engine = "memory://",
        *,
        options: HubOptions | None = None,
        **arguments: Unpack[HubArguments],
    ) -> None:
        self.engine_url = engine if isinstance(engine, str) else None
        made = convert(arguments, HubOptions, "Hub") if options is None else options
        self.node = Node(open_engine(engine) if isinstance(engine, str) else engine, made)

    @property
    def options(self) -> HubOptions:
        """The options it was made with."""
        return self.node.options

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
            Refused: ``bad_channel``, ``unknown_channel``, ``message_too_large``, ``bad_idempotency_key``.
            EngineUnavailable: nothing was published; try again.
            NotStarted: the hub does not run in this process; nothing was published.
            TypeError: ``data`` cannot be written as JSON.

        Promises: kept by the engine when it returns; applied once per ``idempotency_key`` within
        ``idempotency_window_s``; calls of one task are applied in order; a cancelled call may still be
        applied. From another event loop it is handed to the hub's.
        """
        return await self.node.run(self._publish(channel, data, idempotency_key, publisher))

    def publish_sync(
        self,
        channel: str,
        data: object,
        *,
        idempotency_key: str | None = None,
        publisher: Publisher | None = None,
    ) -> Position:
        """`publish` for a thread, which waits for it. Raises `NotStarted` in the hub's own loop too."""
        return self.node.run_sync(self._publish(channel, data, idempotency_key, publisher))

    def _publish(
        self, channel: str, data: object, key: str | None, publisher: Publisher | None
    ) -> Callable[[], Coroutine[Any, Any, Position]]:
        body, name = to_body(data), to_channel(channel)
        publish = self.node.publishing.publish_and_wait
        return lambda: publish(None, name, *body, key=key, publisher=publisher)

    async def remove_history(self, channel: str) -> Position:
        """Forget the kept publications of a channel, and return the position after them.

        Readers who were behind get a gap. Raises `NotStarted`; `Refused` (``not_available``) for a durable
        stream, which is deleted as a whole.
        """
        return await self.node.run(partial(self.node.remove_history, to_channel(channel)))

    def remove_history_sync(self, channel: str) -> Position:
        """`remove_history` for a thread, which waits for it."""
        return self.node.run_sync(partial(self.node.remove_history, to_channel(channel)))

    def authenticate(self, function: AuthenticatorT) -> AuthenticatorT:
        """Decorator: the function that says whose a request is. See `Authenticator`. It replaces the one for
        tokens."""
        self.node.authenticator = off_loop(function)
        self.node.namespaces.knows_users = True
        return function

    def namespace(
        self, name: str, **options: Unpack[NamespaceArguments]
    ) -> Callable[[PermissionT], PermissionT]:
        """Configure a namespace ("" for channels without a ``:``); see `NamespaceOptions`.

        As a decorator, the function is asked for each action of a client: see `Permission`.
        """
        configured = convert(options, NamespaceOptions, f"namespace {name!r}")
        self.node.namespaces.configure(name, configured, None)

        def decorate(function: PermissionT) -> PermissionT:
            self.node.namespaces.configure(name, configured, off_loop(function))
            return function

        return decorate

    def rpc(self, name: str) -> Callable[[RpcHookT], RpcHookT]:
        """Decorator: the function that answers calls of ``name``, given the `ConnectedClient` and its data,
        parsed.

        It returns the answer: bytes as they are, anything else as JSON. See `heartwire.hub.hooks` for errors.
        The caller's next commands wait for it.
        """

        def decorate(function: RpcHookT) -> RpcHookT:
            self.node.hooks.rpc[name] = off_loop(function)
            return function

        return decorate

    def on_connect(self, function: ConnectHookT) -> ConnectHookT:
        """Decorator: called with each `ConnectedClient` before its ``connect`` is answered.

        It returns the ``data`` of the answer; `ConnectedClient.subscribe` adds a server-side subscription to
        it; raising `Unauthorized`, `Forbidden` or another `Refused` keeps the client out.
        """
        self.node.hooks.connect = off_loop(function)
        return function

    def on_disconnect(self, function: DisconnectHookT) -> DisconnectHookT:
        """Decorator: called with each `ConnectedClient` whose connection has ended, and the `Disconnect`
        reason."""
        self.node.hooks.disconnect = off_loop(function)
        return function

    def on_publish(self, function: PublishHookT) -> PublishHookT:
        """Decorator: called before a client's message is kept, with its `Identity`, the channel and the
        bytes.

        Returning ``None`` keeps the data, anything else replaces it (as `publish` takes it); raising
        `Forbidden` or another `Refused` refuses it. It is called for every dialect and transport, and not for
        `publish`.
        """
        self.node.hooks.publish = off_loop(function)
        self.node.namespaces.asks_to_publish = True
        return function

    def on_message(self, function: RpcHookT) -> RpcHookT:
        """Decorator: called with the `ConnectedClient` and the data of its ``send``, which has no answer."""
        self.node.hooks.message = off_loop(function)
        return function

    def asgi(self, *, demo: bool = False) -> ASGIApp:
        """The hub's addresses as an ASGI application, to be served or mounted anywhere.

        ``demo``: with the demo page at ``/``.
        """
        from heartwire.server.app import Application  # the hub does not depend on its addresses

        return Application(self.node, demo=demo)

    def websocket_class(self, prefix: str = "") -> type:
        """The class for uvicorn's ``ws=`` setting: the native door for WebSockets, several times as fast as
        ASGI.

        ``prefix`` is where `asgi` is mounted; WebSockets of all other paths go where they went before.

            uvicorn.run(app, ws=hub.websocket_class("/realtime"))
        """
        from heartwire.server.native import websocket_class  # uvicorn is imported only where it is used

        return websocket_class(self.node, prefix)

    def http_class(self) -> type:
        """The class for uvicorn's ``http=`` setting where `asgi` is the whole application: quicker polls and
        publishes."""
        from heartwire.server.native import http_class

        return http_class(self.node)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Start, and at the end drain and stop. Fits the ``lifespan=`` of Starlette and FastAPI.

        On SIGINT and SIGTERM open polls, streams and sockets are ended at once, so that the server's own
        shutdown need not wait.
        """
        async with self.node.lifespan():
            yield

    async def start(self) -> None:
        """Open the engine; after `stop`, begin anew. Idempotent.

        Raises `EngineError` where it cannot be opened, `ConfigError` for options that do not go together,
        `NotStarted` where it runs in another event loop.
        """
        await self.node.start()

    def drain(self) -> None:
        """End every connection with ``shutdown``, and refuse new ones from now on. Safe from the event loop's
        thread.

        All end at once, so that the program can; their return is paced at the rate of ``connects_per_s``.
        """
        self.node.drain()

    async def stop(self) -> None:
        """Drain, and close the engine once everything accepted is stored. Idempotent."""
        await self.node.stop()
