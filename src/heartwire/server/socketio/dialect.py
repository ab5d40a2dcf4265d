"""The Socket.IO dialect's addresses. They answer once a program has made an `AsyncServer` of the hub."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection
from starlette.responses import Response

from heartwire.errors import Refused
from heartwire.hub.node import Node
from heartwire.server.addresses import Call, Dialect, Handshake, Opening, Route, SocketRoute
from heartwire.server.socketio import requests, sockets

if TYPE_CHECKING:
    from heartwire.server.socketio.server import SocketServer

__all__ = ["SOCKETIO"]

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
"""The protocol has an error of its own for those that it does not know."""


def _server(node: Node) -> "SocketServer":
    server = node.attached.get("socketio")
    if server is None:
        raise Refused("not_found", "no Socket.IO here: make a heartwire.socketio.AsyncServer of the hub")
    return server  # type: ignore[return-value]


def _routes(node: Node) -> Iterator[Route]:
    async def answer(call: Call) -> Response:
        return await requests.answer(_server(node), call)

    def cross_origin(request: HTTPConnection) -> dict[str, str]:
        return requests.cross_origin(_server(node), request)

    if node.options.socketio_path:
        yield Route(node.options.socketio_path, METHODS, answer, cross_origin)


def _sockets(node: Node) -> Iterator[SocketRoute]:
    def open_socket(handshake: Handshake) -> Opening:
        return sockets.open_socket(_server(node), handshake)

    if node.options.socketio_path:
        yield SocketRoute(node.options.socketio_path, open_socket, checks_pages=True)


SOCKETIO = Dialect("socketio", _routes, _sockets)
