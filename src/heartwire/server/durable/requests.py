"""What all requests of the durable dialect begin with, and what all its answers carry."""

from typing import Final

from heartwire.channels import to_channel
from heartwire.errors import Refused
from heartwire.hub.identity import Identity, identify
from heartwire.hub.node import Node
from heartwire.server.addresses import Call
from heartwire.types import Action, Channel

__all__ = ["begin", "common_headers", "to_stream"]

_RESERVED: Final = "__ds"
_EXPOSED: Final = (
    "Stream-Next-Offset, Stream-Up-To-Date, Stream-Closed, Stream-Cursor, Stream-TTL, Stream-Expires-At,"
    " Stream-SSE-Data-Encoding, Producer-Epoch, Producer-Seq, Producer-Expected-Seq, Producer-Received-Seq,"
    " ETag, Location, Retry-After"
)


async def begin(node: Node, call: Call, action: Action) -> tuple[Channel, Identity]:
    """Find the stream of a request's path, and check the permission. Raises `Refused`."""
    headers = call.cors
    headers["vary"] += ", Authorization"
    headers |= common_headers(node)
    if "access-control-expose-headers" in headers:
        headers["access-control-expose-headers"] = _EXPOSED
    node.refuse_when_draining()
    channel = to_stream(node, call.values)
    identity = await identify(node.authenticator, call.request)
    if action != "publish":  # else with the message: see `Publishing.admit`
        await node.namespaces.authorize(identity, action, channel)
    return channel, identity


def common_headers(node: Node) -> dict[str, str]:
    """What all answers have."""
    has_others = bool(node.options.allowed_origins)
    return {
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "cross-origin" if has_others else "same-origin",
    }


def to_stream(node: Node, segments: list[str]) -> Channel:
    """The stream of a path below ours. Raises `Refused` (``not_found``, ``bad_channel``, ``not_available``),
    `UnknownChannel`."""
    if segments[0] == _RESERVED:
        raise Refused("not_found", f"{_RESERVED}: subscriptions of the protocol are not served here")
    channel = to_channel("/".join(segments))
    if not node.namespaces.of(channel).durable:
        raise Refused("not_available", f"{channel!r} is no durable stream (durable = true in its namespace)")
    return channel
