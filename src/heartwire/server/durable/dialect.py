"""The durable dialect's addresses."""

from collections.abc import Iterator

from starlette.responses import Response

from heartwire.hub.node import Node
from heartwire.server.addresses import Call, Dialect, Route, SocketRoute
from heartwire.server.durable.reads import Reads
from heartwire.server.durable.writes import Writes
from heartwire.streams.forks import Forks

__all__ = ["DURABLE"]


def _routes(node: Node) -> Iterator[Route]:
    if not node.options.durable_path:
        return
    forks = Forks(
        node.streams,
        node.engine,
        node.history.read,
        max_bytes=lambda channel: node.namespaces.of(channel).max_stream_bytes,
        default_ttl_s=lambda channel: node.namespaces.of(channel).stream_ttl_s,
    )
    reads, writes = Reads(node, forks), Writes(node, forks)

    async def stream(call: Call) -> Response | None:
        match call.request.method:
            case "PUT":
                return await writes.create(call)
            case "POST":
                return await writes.append(call)
            case "DELETE":
                return await writes.delete(call)
        return await reads.answer(call)

    yield Route(f"{node.options.durable_path}/{{*}}", ("GET", "PUT", "POST", "DELETE"), stream)


def _sockets(node: Node) -> Iterator[SocketRoute]:
    return iter(())


DURABLE = Dialect("durable", _routes, _sockets)
