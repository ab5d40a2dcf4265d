"""The part of the HTTP API that is about who is connected: subscribe, unsubscribe, disconnect, refresh.

A command is for all of a user's connections on this node, or for one of them (``client``, ``session``).
"""

import base64
import binascii
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from heartwire.channels import to_channel
from heartwire.codes import CODES
from heartwire.dialects.centrifugal import ServerSide, Session
from heartwire.dialects.centrifugal.types import SubscribeRequest
from heartwire.errors import Refused

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub

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
    """``user`` "" is for those who are anonymous."""

    user: str
    client: str = ""
    session: str = ""

    def sessions(self, hub: "Hub") -> Iterator[Session]:
        """Those of this node that are meant."""
        for session in hub.sessions.of(self.user):
            if (not self.client or session.client == self.client) and (
                not self.session or session.emulation[0] == self.session
            ):
                yield session


class _Since(msgspec.Struct, frozen=True):
    offset: int = 0
    epoch: str = ""


class _Flag(msgspec.Struct, frozen=True):
    value: bool = False


class _Override(msgspec.Struct, frozen=True):
    """Options of the channel that are switched on for these subscriptions; those that a namespace has on stay
    on."""

    force_push_join_leave: _Flag = _Flag()
    force_positioning: _Flag = _Flag()
    force_recovery: _Flag = _Flag()


class Subscribe(_ForUser, frozen=True, kw_only=True):
    """``subscribe``."""

    channel: str
    info: msgspec.Raw = _ABSENT
    b64info: str = ""
    data: msgspec.Raw = _ABSENT
    b64data: str = ""
    recover_since: _Since | None = None
    override: _Override = _Override()


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


async def subscribe(hub: "Hub", request: Subscribe) -> dict[str, Any]:
    """Subscribe them to a channel, from the server's side."""
    channel = to_channel(request.channel)
    hub.namespaces.of(channel)
    wanted = request.override
    sub = ServerSide(
        channel,
        info=_payload(request.info, request.b64info, "b64info"),
        join_leave=wanted.force_push_join_leave.value,
        positioned=wanted.force_positioning.value,
        recoverable=wanted.force_recovery.value,
        data=_payload(request.data, request.b64data, "b64data"),
    )
    since = request.recover_since
    recover = None
    if since is not None:
        recover = SubscribeRequest(channel=channel, recover=True, epoch=since.epoch, offset=since.offset)
    for session in request.sessions(hub):
        wait = session.subscribe(sub, recover)
        if wait is not None:
            await wait
    return {}


async def unsubscribe(hub: "Hub", request: Unsubscribe) -> dict[str, Any]:
    """End their subscriptions to a channel, whoever began them."""
    channel = to_channel(request.channel)
    for session in request.sessions(hub):
        session.unsubscribe(channel)
    return {}


async def disconnect(hub: "Hub", request: Disconnect) -> dict[str, Any]:
    """End their connections, also those of the plain dialect."""
    code, reason = _why(request.disconnect)
    for session in request.sessions(hub):
        if session.client not in request.whitelist:
            session.disconnect_with(code, reason)
    for link in tuple(hub.links):
        member = link.member
        if (
            member is None
            or member.user != request.user
            or request.session
            or member.client in request.whitelist
        ):
            continue
        if not request.client or member.client == request.client:
            link.close(code, reason)
    return {}


async def refresh(hub: "Hub", request: Refresh) -> dict[str, Any]:
    """Change when their connections expire."""
    ttl_s = request.expire_at - hub.wall_clock() if request.expire_at else None
    for session in request.sessions(hub):
        if request.expired or (ttl_s is not None and ttl_s <= 0):
            session.disconnect("connection_expired")
        else:
            session.refreshed(ttl_s)
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
    except (binascii.Error, msgspec.DecodeError) as error:
        raise Refused("bad_request", f"{name} holds no JSON in base64: {error}") from None
