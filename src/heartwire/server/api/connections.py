"""Methods of the HTTP API for connections: subscribe, unsubscribe, disconnect, refresh.

A command is for all of a user's connections, or for one of them (``client``, ``session``). The functions do
the share of one node.
"""

import base64
from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from heartwire.channels import to_channel
from heartwire.codes import CODES
from heartwire.errors import Refused
from heartwire.hub.claims import Overrides
from heartwire.hub.connections import Connection
from heartwire.hub.node import Node
from heartwire.types import Position, ServerSubscription

__all__ = [
    "Disconnect",
    "Refresh",
    "Subscribe",
    "Unsubscribe",
    "disconnect",
    "refresh",
    "subscribe",
    "unsubscribe",
]

_ABSENT: Final = msgspec.Raw(b"null")


class _ForUser(msgspec.Struct, frozen=True, kw_only=True):
    """``user`` "": the anonymous clients."""

    user: str
    client: str = ""
    session: str = ""

    def connections(self, node: Node) -> Iterator[Connection]:
        """The connections of this node that the request selects."""
        for connection in node.connections.of(self.user):
            if self.client in ("", connection.id) and self.session in ("", connection.session_id):
                yield connection


class _Since(msgspec.Struct, frozen=True):
    offset: int = 0
    epoch: str = ""


class Subscribe(_ForUser, frozen=True, kw_only=True):
    """``subscribe``; ``expire_at``: seconds since 1970, 0: it does not expire."""

    channel: str
    info: msgspec.Raw = _ABSENT
    b64info: str = ""
    data: msgspec.Raw = _ABSENT
    b64data: str = ""
    recover_since: _Since | None = None
    override: Overrides = Overrides()
    expire_at: Annotated[int, Meta(ge=0)] = 0


class Unsubscribe(_ForUser, frozen=True, kw_only=True):
    """``unsubscribe``."""

    channel: str


class _Why(msgspec.Struct, frozen=True):
    code: int = 0
    reason: str = ""


class Disconnect(_ForUser, frozen=True, kw_only=True):
    """``disconnect``; the clients of ``whitelist`` stay."""

    whitelist: list[str] = []
    disconnect: _Why | None = None


class Refresh(_ForUser, frozen=True, kw_only=True):
    """``refresh``: the connections live until ``expire_at`` (seconds since 1970; 0: for good), or with
    ``expired`` no longer."""

    expired: bool = False
    expire_at: int = 0


async def subscribe(node: Node, request: Subscribe) -> dict[str, Any]:
    """Subscribe them to a channel, from the server's side."""
    channel = to_channel(request.channel)
    node.namespaces.of(channel)
    since, expire_at = request.recover_since, request.expire_at
    subscription = ServerSubscription(
        channel,
        info=_payload(request.info, request.b64info, "b64info"),
        data=_payload(request.data, request.b64data, "b64data"),
        since=Position(since.epoch, since.offset) if since is not None else None,
        ttl_s=max(0, expire_at - node.clocks.wall()) if expire_at else None,
        override=request.override.override,
    )
    for connection in request.connections(node):
        wait = connection.subscribe(subscription) if connection.can_subscribe else None
        if wait is not None:
            await wait
    return {}


async def unsubscribe(node: Node, request: Unsubscribe) -> dict[str, Any]:
    """End their subscriptions to a channel, whoever began them."""
    channel = to_channel(request.channel)
    for connection in request.connections(node):
        connection.unsubscribe(channel, 2000, "server unsubscribe")
    return {}


async def disconnect(node: Node, request: Disconnect) -> dict[str, Any]:
    """End their connections, of every dialect."""
    code, reason = _why(request.disconnect)
    for connection in request.connections(node):
        if connection.id not in request.whitelist:
            connection.disconnect(code, reason)
    return {}


async def refresh(node: Node, request: Refresh) -> dict[str, Any]:
    """Change when their connections expire."""
    ttl_s = request.expire_at - node.clocks.wall() if request.expire_at else None
    expired = CODES["connection_expired"]
    for connection in request.connections(node):
        if request.expired or (ttl_s is not None and ttl_s <= 0):
            connection.disconnect(expired.close_code, expired.reason)
        else:
            connection.refresh(ttl_s)
    return {}


def _why(given: _Why | None) -> tuple[int, str]:
    if given is None or not given.code:
        default = CODES["force_disconnect"]
        return default.close_code, (given.reason if given else "") or default.reason
    if not 3000 <= given.code <= 4999:
        raise Refused(
            "bad_request",
            f"disconnect.code {given.code}: 3000 to 4999; up to 3499 and from 4000 to 4499 they come back",
        )
    reason = given.reason or "disconnected by the server"
    if len(reason.encode()) > 123:
        raise Refused("bad_request", "disconnect.reason: at most 123 bytes")
    return given.code, reason


def _payload(plain: msgspec.Raw, encoded: str, name: str) -> bytes | None:
    if not encoded:
        return None if bytes(plain) == b"null" else bytes(plain)
    try:
        return bytes(msgspec.json.decode(base64.b64decode(encoded, validate=True), type=msgspec.Raw))
    except (ValueError, RecursionError) as error:
        raise Refused("bad_request", f"{name} holds no JSON in base64: {error}") from None
