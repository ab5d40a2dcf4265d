"""Commands of a session that only ask and answer: publish, presence, history, ping, rpc, send."""

from functools import partial
from typing import TYPE_CHECKING

from heartwire.core.waiting import settled
from heartwire.dialects.centrifugal.port import Action, Disconnected
from heartwire.dialects.centrifugal.types import (
    Empty,
    HistoryRequest,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    PublishRequest,
    PublishResult,
    RpcRequest,
    RpcResult,
    SendRequest,
    UnsubscribeRequest,
)
from heartwire.errors import Refused
from heartwire.types import Channel, Member, Position

if TYPE_CHECKING:
    from heartwire.dialects.centrifugal.session import Session

__all__ = ["history", "ping", "presence", "presence_stats", "publish", "rpc", "send"]

_MAX_KEY: int = 255


async def publish(session: "Session", id: int, request: PublishRequest) -> None:
    """Publish; answered with the position when the engine has it. The next command need not wait for that.

    A client that sends one publish after the other without waiting would lose their order to a refusal in the
    middle: those behind it are taken, and its retry comes after them. So those with a key have a *round*, and
    go back together: one that is refused for the time being ends its round, and the rest of that round is
    refused too (``out_of_order``), until the client sends all of them again in a later one. The keys keep
    what had been taken from being published twice.

    What had been handed to the engine when an earlier one *fails there* cannot be called back: the engine has
    to fail it too, as SQLite does; memory answers at once. Of an engine that takes it, the earlier one's
    retry gets the higher offset.
    """
    key, round = request.idempotency_key, request.round
    try:
        session.keep_order(key, round)
        channel = _named(session, request.channel, "publish")
        session.take_token()
        if request.type:
            raise Refused("not_available", "map subscriptions are not there")
        if len(key) > _MAX_KEY:
            raise Refused("bad_idempotency_key", f"idempotency_key: 1 to {_MAX_KEY} characters")
        post = session.codec.post(request)
        await settled(session.port.authorize(session, "publish", channel))
        wait = session.port.publish(session, channel, post, partial(_published, session, id, key, round))
        if wait is not None:
            await wait
    except Exception as error:
        session.end_round(key, round, error)
        raise


def _published(session: "Session", id: int, key: str, round: int, outcome: Position | BaseException) -> None:
    if isinstance(outcome, Position):
        session.reply(id, "publish", PublishResult(outcome.epoch, outcome.offset))
    else:
        session.end_round(key, round, outcome)
        session.refuse(id, "publish", outcome)


async def presence(session: "Session", id: int, request: UnsubscribeRequest) -> None:
    """Who is there."""
    members = await _members(session, request.channel, "presence")
    info = session.codec.info
    session.reply(id, "presence", PresenceResult({member.client: info(member) for member in members}))


async def presence_stats(session: "Session", id: int, request: UnsubscribeRequest) -> None:
    """How many are there; all who are anonymous count as one user."""
    members = await _members(session, request.channel, "presence_stats")
    session.reply(
        id, "presence_stats", PresenceStatsResult(len(members), len({member.user for member in members}))
    )


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
    """The client asks whether we are there: so that it need not wait for our next ping where it has a
    doubt."""
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
