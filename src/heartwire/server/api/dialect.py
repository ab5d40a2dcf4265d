"""The HTTP API's address."""

from collections.abc import Iterator

from starlette.responses import Response

from heartwire.hub.node import Node
from heartwire.server.addresses import Call, Dialect, Route
from heartwire.server.api.methods import Api

__all__ = ["API"]


def _routes(node: Node) -> Iterator[Route]:
    api = Api(node)

    async def method(call: Call) -> Response:
        return await api.respond(call.request, call.values[0])

    yield Route("/api/{}", ("POST",), method)


API = Dialect("api", _routes, lambda node: ())
