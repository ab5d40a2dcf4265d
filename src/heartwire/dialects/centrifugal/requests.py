"""Commands of a session that only ask and answer: presence, history, ping, rpc, send."""

from heartwire.core.waiting import settled
from heartwire.dialects.centrifugal import types
from heartwire.dialects.centrifugal.state import SessionState
from heartwire.errors import Refused
from heartwire.types import Member, Position

__all__ = ["history", "ping", "presence", "presence_stats", "rpc", "send"]


async def presence(session: SessionState, id: int, request: types.UnsubscribeRequest) -> None:
    """List the members of a channel."""
    members = await _members(session, request.channel)
    info = session.codec.info
    session.reply(id, "presence", types.PresenceResult({member.client: info(member) for member in members}))


async def presence_stats(session: SessionState, id: int, request: types.UnsubscribeRequest) -> None:
    """Count the members of a channel; all anonymous ones are one user."""
    members = await _members(session, request.channel)
    users = {member.user for member in members}
    session.reply(id, "presence_stats", types.PresenceStatsResult(len(members), len(users)))


async def _members(session: SessionState, name: str) -> list[Member]:
    channel = session.port.channel(session, name)
    await settled(session.port.authorize(session, "presence", channel))
    return await session.port.members(channel)


async def history(session: SessionState, id: int, request: types.HistoryRequest) -> None:
    """Read a page of what is kept."""
    channel = session.port.channel(session, request.channel)
    since = request.since
    if request.limit < -1:
        raise Refused("bad_request", "limit is -1, 0 or more")
    await settled(session.port.authorize(session, "history", channel))
    most = session.settings.history_items
    publications, head = await session.port.history(
        channel,
        limit=most if request.limit < 0 else min(request.limit, most),
        since=None if since is None else Position(since.epoch, since.offset),
        reverse=request.reverse,
    )
    raw, encode = session.codec.raw, session.codec.publication
    insides = [raw(encode(publication)) for publication in publications]
    session.reply(id, "history", types.HistoryResult(insides, head.epoch, head.offset))


async def ping(session: SessionState, id: int, request: types.Empty) -> None:
    """Answer at once: a client in doubt need not wait for our next ping."""
    session.reply(id, "ping", types.Empty())


async def rpc(session: SessionState, id: int, request: types.RpcRequest) -> None:
    """Call a method of the application."""
    data = await settled(session.port.rpc(session, request.method, bytes(request.data)))
    session.reply(id, "rpc", types.RpcResult(session.codec.payload(data) if data is not None else None))


async def send(session: SessionState, id: int, request: types.SendRequest) -> None:
    """Hand a message to the application; there is no reply."""
    await settled(session.port.send(session, bytes(request.data)))
