"""Commands of a session that only ask and answer: publish, presence, history, ping, rpc, send."""

from functools import partial
from typing import TYPE_CHECKING

from heartwire.dialects.centrifugal.port import Action, Disconnected
from heartwire.dialects.centrifugal.types import (
    Empty,
    HistoryRequest,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    PublishRequest,
    RpcRequest,
    RpcResult,
    SendRequest,
    UnsubscribeRequest,
)
from heartwire.dialects.centrifugal.waiting import settled
from heartwire.errors import Refused
from heartwire.types import Channel, Member, Position

if TYPE_CHECKING:
    from heartwire.dialects.centrifugal.session import Session

__all__ = ["history", "ping", "presence", "presence_stats", "publish", "rpc", "send"]

_MAX_KEY: int = 255


async def publish(session: "Session", id: int, request: PublishRequest) -> None:
    """Publish; answered when the engine has it. The next command need not wait for that."""
    channel = _named(session, request.channel, "publish")
    session.take_token()
    if request.type:
        raise Refused("not_available", "map subscriptions are not there")
    data = bytes(request.data)
    if not data and session.codec.is_text:
        raise Refused("bad_request", "publish without data")
    key = request.idempotency_key or None
    if key is not None and len(key) > _MAX_KEY:
        raise Refused("bad_idempotency_key", f"idempotency_key: 1 to {_MAX_KEY} characters")
    await settled(session.port.authorize(session, "publish", channel))
    wait = session.port.publish(session, channel, data, key, partial(_published, session, id))
    if wait is not None:
        await wait


def _published(session: "Session", id: int, error: BaseException | None) -> None:
    if error is None:
        session.reply(id, "publish", Empty())
    else:
        session.refuse(id, "publish", error)


async def presence(session: "Session", id: int, request: UnsubscribeRequest) -> None:
    """Who is there."""
    members = await _members(session, request.channel, "presence")
    info = session.codec.info
    session.reply(id, "presence", PresenceResult({member.client: info(member) for member in members}))


async def presence_stats(session: "Session", id: int, request: UnsubscribeRequest) -> None:
    """How many are there; all who are anonymous count as one user."""
    members = await _members(session, request.channel, "presence_stats")
    session.reply(id, "presence_stats", PresenceStatsResult(len(members), len({member.user for member in members})))


async def _members(session: "Session", name: str, method: str) -> list[Member]:
    channel = _named(session, name, method)
    await _authorize(session, "presence", channel)
    return await session.port.members(channel)


async def history(session: "Session", id: int, request: HistoryRequest) -> None:
    """A page of what is kept."""
    channel = _named(session, request.channel, "history")
    since = request.since
    if request.limit < -1:
        raise Refused("bad_request", "limit is -1, 0 or more")
    await _authorize(session, "history", channel)
    most = session.limits.history_items
    publications, head = await session.port.history(
        channel,
        limit=most if request.limit < 0 else min(request.limit, most),
        since=None if since is None else Position(since.epoch, since.offset),
        reverse=request.reverse,
    )
    raw, encode = session.codec.raw, session.codec.publication
    insides = [raw(encode(publication)) for publication in publications]
    session.reply(id, "history", HistoryResult(insides, head.epoch, head.offset))


async def ping(session: "Session", id: int, request: Empty) -> None:
    """The client asks whether we are there: so that it need not wait for our next ping where it has a doubt."""
    session.reply(id, "ping", Empty())


async def rpc(session: "Session", id: int, request: RpcRequest) -> None:
    """Call a method of the application."""
    data = await settled(session.port.rpc(session, request.method, bytes(request.data)))
    session.reply(id, "rpc", RpcResult(session.codec.payload(data) if data is not None else None))


async def send(session: "Session", id: int, request: SendRequest) -> None:
    """A message to the application; there is no reply."""
    await settled(session.port.send(session, bytes(request.data)))


def _named(session: "Session", name: str, method: str) -> Channel:
    if not name:
        raise Disconnected("bad_request", f"bad request: {method} without a channel")
    return session.port.channel(session, name)


async def _authorize(session: "Session", action: Action, channel: Channel) -> None:
    await settled(session.port.authorize(session, action, channel))
