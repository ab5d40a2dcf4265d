"""The plain dialect's addresses."""

from collections.abc import Iterator
from functools import partial

from starlette.responses import Response

from heartwire.hub.node import Node
from heartwire.server.addresses import Call, Dialect, Route, SocketRoute
from heartwire.server.plain import publishes
from heartwire.server.plain.polls import Polls
from heartwire.server.plain.sockets import open_socket
from heartwire.server.plain.streams import stream

__all__ = ["PLAIN"]


def _routes(node: Node) -> Iterator[Route]:
    polls = Polls(node)

    async def follow(call: Call) -> Response | None:
        if "text/event-stream" in call.request.headers.get("accept", ""):
            return await stream(node, call)
        return await polls.answer(call)

    async def channel(call: Call) -> Response | None:
        if call.request.method == "POST":
            return await publishes.publish(node, call)
        return await follow(call)

    async def presence(call: Call) -> Response:
        return await publishes.presence(node, call)

    yield Route("/channels", ("GET",), follow)
    yield Route("/channels/{}", ("GET", "POST"), channel)
    yield Route("/channels/{}/presence", ("GET",), presence)


def _sockets(node: Node) -> Iterator[SocketRoute]:
    yield SocketRoute("/channels", partial(open_socket, node))
    yield SocketRoute("/channels/{}", partial(open_socket, node))
    # So that `new WebSocket("ws://127.0.0.1:8000")` just works.
    yield SocketRoute("/", partial(open_socket, node, channel=["lobby"], heartbeat="heartbeat"))


PLAIN = Dialect("plain", _routes, _sockets)
