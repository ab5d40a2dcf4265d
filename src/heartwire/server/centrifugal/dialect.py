"""The Centrifugal dialect's addresses."""

from collections.abc import Iterator
from functools import partial
from importlib.metadata import version

from starlette.responses import Response

from heartwire.dialects.centrifugal import SessionSettings
from heartwire.hub.node import Node
from heartwire.server.addresses import Call, Dialect, Route, SocketRoute
from heartwire.server.centrifugal.commands import commands
from heartwire.server.centrifugal.connection import SessionContext
from heartwire.server.centrifugal.emulation import emulate, hear_others
from heartwire.server.centrifugal.port import HubPort
from heartwire.server.centrifugal.sockets import open_socket
from heartwire.server.centrifugal.streams import event_stream, http_stream

__all__ = ["CENTRIFUGAL", "session_context"]


def session_context(node: Node) -> SessionContext:
    """What the sessions of a node share."""
    options = node.options
    settings = SessionSettings(
        version=f"Heartwire {version('heartwire')}",
        ping_interval_s=options.ping_interval_s,
        max_channels=options.max_channels_per_connection,
        publish_burst=options.publish_burst,
        max_frame_bytes=options.max_frame_bytes,
    )
    return SessionContext(node, HubPort(node), settings)


def _routes(node: Node) -> Iterator[Route]:
    context = session_context(node)
    hear_others(node)

    async def stream(call: Call) -> None:
        await http_stream(context, call)

    async def events(call: Call) -> None:
        await event_stream(context, call)

    async def batch(call: Call) -> Response:
        return await commands(context, call)

    async def emulation(call: Call) -> Response:
        return await emulate(node, call)

    yield Route("/connection/http_stream", ("POST",), stream)
    yield Route("/connection/sse", ("GET", "POST"), events)
    yield Route("/connection/commands", ("POST",), batch)
    yield Route("/emulation", ("POST",), emulation)


def _sockets(node: Node) -> Iterator[SocketRoute]:
    context = session_context(node)
    yield SocketRoute("/connection/websocket", partial(open_socket, context))


CENTRIFUGAL = Dialect("centrifugal", _routes, _sockets)
