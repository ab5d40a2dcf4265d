"""``POST``: publish the body; and ``GET .../presence``: the members of a channel."""

import asyncio
from collections import deque

from starlette.responses import Response

from heartwire.channels import to_channel
from heartwire.dialects.plain.codec import members_json, position_json
from heartwire.dialects.plain.requests import body_is_text
from heartwire.engines.contract import Retention
from heartwire.hub.identity import Identity, identify
from heartwire.hub.node import Node
from heartwire.hub.publishing import publisher_of
from heartwire.server.addresses import Call
from heartwire.server.requests import address_of, read_body
from heartwire.types import Channel, Position

__all__ = ["Poster", "presence", "publish"]


class Poster:
    """The `Author` of one request."""

    free: Retention | None = None
    serial = 0

    def __init__(self, node: Node, call: Call, identity: Identity) -> None:
        self.identity = identity
        self.publisher = publisher_of(identity, "")
        self.bucket = node.rates.of(address_of(call.request), node.clocks.monotonic())
        self.in_flight: deque[asyncio.Future[Position]] | None = None

    def follows(self, channel: Channel) -> bool:
        """See `Author.follows`."""
        return False


async def publish(node: Node, call: Call) -> Response:
    """Publish the body; answered when the engine has it."""
    node.refuse_when_draining()
    request = call.request
    channel = to_channel(call.values[0])
    node.namespaces.of(channel)
    identity = await identify(node.authenticator, request)
    data = await read_body(node, request)
    is_text = body_is_text(request.headers.get("content-type"), data)
    author = Poster(node, call, identity)
    key = request.headers.get("idempotency-key")
    position = await node.publishing.publish_and_wait(author, channel, is_text, data, key=key)
    return Response(position_json(str(position)), media_type="application/json")


async def presence(node: Node, call: Call) -> Response:
    """List the members of a channel."""
    channel = to_channel(call.values[0])
    node.namespaces.of(channel)
    identity = await identify(node.authenticator, call.request)
    await node.namespaces.authorize(identity, "presence", channel)
    return Response(members_json(await node.presence.members(channel)), media_type="application/json")
