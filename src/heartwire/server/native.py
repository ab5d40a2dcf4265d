"""A node behind the native door of uvicorn."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from heartwire.core.waiting import begun
from heartwire.errors import Refused
from heartwire.hub.node import Node
from heartwire.server.addresses import split_path
from heartwire.server.app import Application
from heartwire.server.dialects import DIALECTS
from heartwire.server.durable.fast_path import FastAppends
from heartwire.server.plain.fast_path import FastPath
from heartwire.server.responses import refusal
from heartwire.server.socketio.fast_path import FastPolls
from heartwire.transports.http.connection import HttpBounds
from heartwire.transports.http.front import Facts, FrontProtocol, front_protocol
from heartwire.transports.http.phases import HttpTimes
from heartwire.transports.websocket.asgi_handshake import AsgiHandshake
from heartwire.transports.websocket.handshake import Refusal
from heartwire.transports.websocket.incoming import Incomplete
from heartwire.transports.websocket.native import native_protocol

__all__ = ["HubDoor", "http_class", "websocket_class"]


def websocket_class(node: Node, prefix: str, only: str = "") -> type:
    """See `Hub.websocket_class`. ``only``: the one address that is ours, by its first segment."""
    return native_protocol(HubDoor(node, prefix, only))


def http_class(node: Node, *, polls_only: bool = False) -> type:
    """See `Hub.http_class`. ``polls_only``: of the hub's addresses only Socket.IO's is there."""
    options = node.options
    times = HttpTimes(write_s=options.ping_interval_s + options.pong_timeout_s)
    bounds = HttpBounds(times, max_connections=options.max_tcp_connections)
    appends, polls = FastAppends(node), FastPolls(node)

    def other(
        front: FrontProtocol, method: bytes, path: bytes, query: bytes, facts: Facts, body: bytes
    ) -> bool:
        if query:
            return polls.try_answer(front, method, path, query, facts, body)
        is_append = method == b"POST" and facts.origin is None and not polls_only
        return is_append and appends.try_append(front, path, facts, body)

    return front_protocol(FastPath(node, other, has_channels=not polls_only), bounds)


class HubDoor:
    """`SocketDoor` to one node, whose application is mounted at ``prefix`` ("" for the root)."""

    def __init__(self, node: Node, prefix: str, only: str = "") -> None:
        self.switchboard = node.switchboard
        self.leftovers = node.leftovers
        self.incomplete: Incomplete = node.uploads
        self._node = node
        self._root = split_path(prefix.rstrip("/")) if prefix.rstrip("/") else []
        self._first_segments = (
            {only}
            if only
            else {split_path(route.path)[0] for dialect in DIALECTS for route in dialect.sockets(node)}
        )
        self._stopped_with: set[Any] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def claims(self, path: str) -> bool:
        """See `SocketDoor.claims`: all that begins like an address of ours, to refuse it in our words."""
        segments, depth = split_path(path), len(self._root)
        return segments[:depth] == self._root and (segments[depth:] or [""])[0] in self._first_segments

    def bad_handshake(self, name: str, message: str) -> Refusal:
        """See `SocketDoor.bad_handshake`."""
        response = refusal(Refused(name, message))
        return response.status_code, response.raw_headers, bytes(response.body)

    def stop_with(self, connections: set[Any]) -> None:
        """See `SocketDoor.stop_with`: one entry for all of our connections; one each would cost memory."""
        connections.add(self)
        self._stopped_with = connections

    def shutdown(self) -> None:
        """uvicorn is stopping."""
        self._stopped_with.discard(self)
        self._node.drain()

    def answer_handshake(self, handshake: AsgiHandshake) -> None:
        """See `SocketDoor.answer_handshake`: where the hub is the whole application, without a task until
        somebody has to be asked."""
        app = handshake.app
        is_wrapped = isinstance(app, ProxyHeadersMiddleware)
        inner = app.app if is_wrapped else app
        rest: Awaitable[None] | None
        if not (isinstance(inner, Application) and self._node.is_started):
            rest = handshake.run()
        elif handshake.has_root or (is_wrapped and handshake.head.is_forwarded):
            rest = begun(handshake.run())
        else:
            rest = inner.open_natively(handshake)
        if rest is not None:
            task = asyncio.ensure_future(rest)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
