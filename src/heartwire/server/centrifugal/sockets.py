"""WebSocket of the Centrifugal dialect, on either door."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Final

from heartwire.dialects.centrifugal import JSON, PROTOBUF, Codec, PushFormat
from heartwire.hub.links import WatchedLink
from heartwire.server.addresses import Handshake, Opening
from heartwire.server.centrifugal.connection import CentrifugalConnection, SessionContext
from heartwire.transports.websocket.messages import SocketMessages

__all__ = ["CODECS", "choose_codec", "open_socket"]

CODECS: Final[dict[str, Codec]] = {"centrifuge-json": JSON, "centrifuge-protobuf": PROTOBUF}
"""By WebSocket subprotocol. The first that is offered and known is taken; else JSON, and no subprotocol."""


def choose_codec(offered: Sequence[str], query: Mapping[str, str]) -> tuple[Codec, str | None]:
    """The codec of a handshake, and the subprotocol of the answer.

    centrifuge-python offers one with an empty name, which is as good as none.
    """
    for name in offered:
        if name in CODECS:
            return CODECS[name], name
    if "protobuf" in (query.get("format"), query.get("cf_protocol")):
        return PROTOBUF, None
    return JSON, None


def open_socket(context: SessionContext, handshake: Handshake) -> Opening:
    """Answer a handshake; the client says who it is afterwards, by `connect`. Raises `Refused`."""
    context.node.refuse_when_draining()
    codec: Codec = JSON
    subprotocol = None
    query = handshake.query
    if (offered := handshake.subprotocols) or query:
        codec, subprotocol = choose_codec(offered, dict(query))
    limit = context.settings.max_frame_bytes
    return Opening(subprotocol, partial(_connection, context, handshake, codec), limit)


def _connection(
    context: SessionContext, handshake: Handshake, codec: Codec, link: WatchedLink, messages: SocketMessages
) -> CentrifugalConnection:
    format, address = _format(codec, messages), handshake.address
    scope = partial(getattr, handshake, "scope")  # most never ask
    return CentrifugalConnection(context, link, format, "websocket", address=address, scope=scope)


@cache
def _format(codec: Codec, messages: SocketMessages) -> PushFormat:
    join, is_text, one, joined = codec.join, codec.is_text, messages.one, messages.joined
    if joined is None:  # what is one message is a payload too
        return PushFormat(codec, lambda parts: one(is_text, join(parts)))
    return PushFormat(codec, lambda parts: joined([one(is_text, join(parts))]))
