"""Requests to follow channels, as polls, streams and WebSockets read them."""

from collections.abc import Sequence

from starlette.requests import HTTPConnection

from heartwire.dialects.plain.requests import Follow, parse_follow
from heartwire.hub.identity import Identity, identify
from heartwire.hub.node import Node

__all__ = ["authorize_follow", "begin", "read_follow"]


async def begin(node: Node, request: HTTPConnection, values: list[str]) -> tuple[Follow, Identity]:
    """Read a request to follow channels, and check its permission. Raises `Refused`."""
    query = request.query_params.multi_items()
    follow = read_follow(node, values, query, resume=request.headers.get("last-event-id"))
    return follow, await authorize_follow(node, request, follow)


def read_follow(
    node: Node, values: list[str], query: Sequence[tuple[str, str]], *, resume: str | None = None
) -> Follow:
    """Read a request to follow channels. Raises `Refused`.

    Args:
        values: the channel that the path names; none: the parameters ``channel`` of the URL name one or
            several.
    """
    node.refuse_when_draining()
    names = values or [value for name, value in query if name == "channel"]
    limit = node.options.max_channels_per_request
    follow = parse_follow(names, dict(query), max_channels=limit, is_multi=not values, resume=resume)
    for channel in follow.channels:
        node.namespaces.of(channel)
    return follow


async def authorize_follow(node: Node, request: HTTPConnection, follow: Follow) -> Identity:
    """Authenticate a request, and check its permission to follow. Raises `Refused`."""
    identity = await identify(node.authenticator, request)
    for channel in follow.channels:
        await node.namespaces.authorize(identity, "subscribe", channel)
    return identity
