"""A node behind the native door of uvicorn."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable
from typing import Any

from heartwire.errors import HeartwireError, Refused
from heartwire.hub.node import Node
from heartwire.server.addresses import Handshake, Opening, find_route, no_socket, split_path, table_of
from heartwire.server.dialects import DIALECTS
from heartwire.server.plain.fast_path import FastPath
from heartwire.server.responses import refusal
from heartwire.transports.http.front import front_protocol
from heartwire.transports.websocket.deflate import negotiate
from heartwire.transports.websocket.handshake import Refusal
from heartwire.transports.websocket.messages import NATIVE, native_deflated
from heartwire.transports.websocket.native import NativeSocket, native_protocol

__all__ = ["HubDoor", "http_class", "websocket_class"]

log = logging.getLogger("heartwire")


def websocket_class(node: Node, prefix: str) -> type:
    """See `Hub.websocket_class`."""
    return native_protocol(HubDoor(node, prefix))


def http_class(node: Node) -> type:
    """See `Hub.http_class`."""
    return front_protocol(FastPath(node))


class HubDoor:
    """`SocketDoor` to one node, whose application is mounted at ``prefix`` ("" for the root)."""

    def __init__(self, node: Node, prefix: str) -> None:
        self.switchboard = node.switchboard
        self.max_message_bytes = node.options.max_message_bytes
        self._node = node
        self._root = split_path(prefix.rstrip("/")) if prefix.rstrip("/") else []
        self._root_path = "".join(f"/{segment}" for segment in self._root)
        routes = [route for dialect in DIALECTS for route in dialect.sockets(node)]
        self._sockets = table_of(routes)
        self._first_segments = {split_path(route.path)[0] for route in routes}
        self._stopped_with: set[Any] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def claims(self, path: str) -> bool:
        """See `SocketDoor.claims`: all that begins like an address of ours, to refuse it in our words."""
        below = self._below(path)
        return below is not None and below.removeprefix("/").partition("/")[0] in self._first_segments

    def _below(self, path: str) -> str | None:
        """An encoded path below the prefix, which clients encode as they like; ``None`` elsewhere."""
        if not self._root:
            return path
        depth = len(self._root) + 1
        parts = path.split("/", depth)
        return "/".join(["", *parts[depth:]]) if split_path("/".join(parts[:depth])) == self._root else None

    def bad_handshake(self, name: str, message: str) -> Refusal:
        """See `SocketDoor.bad_handshake`."""
        return _refusal(Refused(name, message))

    def stop_with(self, connections: set[Any]) -> None:
        """See `SocketDoor.stop_with`: one entry for all of our connections; one each would cost memory."""
        connections.add(self)
        self._stopped_with = connections

    def shutdown(self) -> None:
        """uvicorn is stopping."""
        self._stopped_with.discard(self)
        self._node.drain()

    def answer_handshake(self, socket: NativeSocket, scope: dict[str, Any]) -> None:
        """See `SocketDoor.answer_handshake`: at once, where nobody has to be asked."""
        node = self._node
        path = scope["path"]
        found = find_route(self._sockets, split_path(self._below(path) or ""))
        scope["root_path"] = self._root_path
        if "%" in path:
            scope["path"] = "/".join(["", *split_path(path)])
        handshake = Handshake(scope, found[1] if found is not None else [])
        headers = handshake.headers
        try:
            node.check_page(headers.get("origin"), headers.get("host", ""))
        except Refused as error:
            socket.refuse(_refusal(error))
            return
        try:
            if found is None:
                raise no_socket()
            open = found[0].open
            answer = open(handshake) if node.is_started else self._when_started(open, handshake)
            if isinstance(answer, Opening):
                self._open(socket, handshake, answer)
            else:
                task = asyncio.ensure_future(self._open_later(socket, handshake, answer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except HeartwireError as error:
            _accept_and_close(socket, error)

    async def _when_started(self, open: Any, handshake: Handshake) -> Opening:
        await self._node.ensure_started()
        answer: Opening | Awaitable[Opening] = open(handshake)
        return await answer if inspect.isawaitable(answer) else answer

    async def _open_later(
        self, socket: NativeSocket, handshake: Handshake, answer: Awaitable[Opening]
    ) -> None:
        try:
            opening = await answer
            if not socket.closed:
                self._open(socket, handshake, opening)
        except HeartwireError as error:
            _accept_and_close(socket, error)
        except Exception:
            log.exception("WebSocket %s failed", handshake.scope["path"])
            message = "internal server error: the server's log has the details"
            _accept_and_close(socket, HeartwireError(message))

    def _open(self, socket: NativeSocket, handshake: Handshake, opening: Opening) -> None:
        node = self._node
        deflate = None
        if node.options.compress and "sec-websocket-extensions" in handshake.headers:
            deflate = negotiate(handshake.all("sec-websocket-extensions"))
        socket.serial = node.connections.next_serial()
        messages = NATIVE if deflate is None else native_deflated(deflate.window_bits)
        handler = opening.handler(socket, messages)
        extensions = None if deflate is None else deflate.header
        socket.accept(handler, subprotocol=opening.subprotocol, extensions=extensions)
        handler.opened()


def _accept_and_close(socket: NativeSocket, error: HeartwireError) -> None:
    """Refuse after accepting: a browser does not show a page why a handshake failed."""
    if not socket.closed:
        socket.accept(None)
        socket.close(error.code.close_code, str(error))


def _refusal(error: Refused) -> Refusal:
    response = refusal(error)
    return response.status_code, response.raw_headers, bytes(response.body)
