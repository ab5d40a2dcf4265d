"""Subscriptions of a session: how they begin, recover, expire and end.

A subscription is placed first: a position is found, and the publications after the client's old position are
read. Then the reply is written, and only then does the core deliver what follows that very position. So
nothing is lost or doubled between the reply and the pushes, whatever is published meanwhile; a recovery that
is too long for one reply goes on as pushes.

On a gap (`ClientSubscription.gap`) a client-side subscription ends with 2500: clients then subscribe anew
from their last position, and the reply says whether it could be continued. A server-side one ends the
connection with 3010.
"""

from typing import Final

import msgspec
from msgspec.structs import replace

from heartwire.core.switchboard import ReadResult
from heartwire.core.waiting import settled
from heartwire.dialects.centrifugal import types
from heartwire.dialects.centrifugal.state import ClientSubscription, SessionState
from heartwire.dialects.centrifugal.values import Disconnected, Rules, SubscriptionGrant, TokenExpired
from heartwire.errors import Forbidden, LimitExceeded, Refused, Unauthorized
from heartwire.types import NOW, Channel, Position, Publication, ServerSubscription

__all__ = [
    "Placed",
    "expire",
    "go_live",
    "place_server_side",
    "seconds",
    "sub_refresh",
    "subscribe",
    "subscribe_server_side",
    "unsubscribe",
]

_REJECT_UNRECOVERED: Final = 2
_NOT_RECOVERING: Final = types.SubscribeRequest()
_EXPIRED: Final = (2501, "subscription expired")


class Placed(msgspec.Struct, frozen=True):
    """A subscription before it is live: the reply, and the position after which pushes begin; or the end of
    the stream, where the reply has all of it."""

    sub: ClientSubscription
    result: types.SubscribeResult
    start: Position
    end: Publication | None = None


async def subscribe(session: SessionState, id: int, request: types.SubscribeRequest) -> None:
    """Subscribe to a channel."""
    _check(request)
    channel = session.port.channel(session, request.channel)
    sub = _begin(session, channel, is_server_side=False)
    try:
        try:
            answer = session.port.grant(session, channel, request.token, bytes(request.data))
            grant = answer if isinstance(answer, SubscriptionGrant) else await answer
        except TokenExpired:
            raise
        except Unauthorized as error:
            raise Forbidden(error.message) from None
        sub.inform(grant.info)
        sub.override = grant.override
        rules = session.port.rules(channel).overridden(grant.override)
        if rules.join_leave:
            sub.hears_members = await _hears_members(session, channel, rules, asked=request.join_leave)
        placed = await _place(session, sub, request, rules)
    except BaseException:
        sub.forget()
        raise
    if session.subs.get(channel) is not sub:  # ended meanwhile, by the server or with the session
        raise Forbidden("unsubscribed by the server")
    data = session.codec.payload(grant.data) if grant.data else None
    result = placed.result
    if grant.ttl_s is not None or data is not None:
        sub.expire_in(grant.ttl_s)
        result = replace(result, expires=grant.ttl_s is not None, ttl=seconds(grant.ttl_s), data=data)
    session.reply(id, "subscribe", result)
    go_live(session, placed)


def go_live(session: SessionState, placed: Placed) -> None:
    """Send the reply, and begin live delivery: from here on the core writes."""
    session.flush()
    sub = placed.sub
    if session.subs.get(sub.channel) is not sub:
        return
    if placed.end is None:
        session.port.follow(session, sub, placed.start)
    else:
        sub.close(placed.end)


async def unsubscribe(session: SessionState, id: int, request: types.UnsubscribeRequest) -> None:
    """Unsubscribe from a channel; also answered where there is no subscription."""
    if not request.channel:
        raise Refused("bad_request", "unsubscribe without a channel")
    sub = session.subs.get(request.channel)
    if sub is not None:
        sub.leave()
    session.reply(id, "unsubscribe", types.Empty())


async def sub_refresh(session: SessionState, id: int, request: types.SubRefreshRequest) -> None:
    """Take a new subscription token; it names the channel where centrifuge-python 0.5.0 does not."""
    if request.type:
        raise Refused("not_available", "map and shared-poll subscriptions are not supported")
    if not request.token:
        raise Refused("bad_request", "sub_refresh without a token")
    if request.channel and request.channel not in session.subs:
        raise Forbidden("not subscribed")
    try:
        refreshed = await settled(session.port.sub_refresh(session, request.channel, request.token))
    except TokenExpired:
        raise Refused("expired", "the new token has expired already") from None
    except Unauthorized as error:
        raise Disconnected("unauthorized", f"invalid token: {error.message}") from None
    sub = session.subs.get(refreshed.channel)
    if sub is None:
        raise Forbidden("not subscribed")
    sub.expire_in(refreshed.ttl_s)
    result = types.RefreshResult(refreshed.ttl_s is not None, seconds(refreshed.ttl_s))
    session.reply(id, "sub_refresh", result)


# -- server-side ---------------------------------------------------------------------------------------------


async def place_server_side(
    session: SessionState, wanted: ServerSubscription, recover: types.SubscribeRequest | None
) -> Placed:
    """Place a subscription that the server makes."""
    channel = session.port.channel(session, wanted.channel)
    sub = _begin(session, channel, is_server_side=True)
    try:
        sub.inform(wanted.info)
        sub.override = wanted.override
        rules = session.port.rules(channel).overridden(wanted.override)
        sub.hears_members = rules.join_leave and rules.force_push_join_leave
        asked = recover or _NOT_RECOVERING
        request = types.SubscribeRequest(
            recover=asked.recover,
            offset=asked.offset,
            epoch=asked.epoch,
            positioned=asked.positioned,
            recoverable=asked.recoverable,
        )
        placed = await _place(session, sub, request, rules)
    except BaseException:
        sub.forget()
        raise
    data = session.codec.payload(wanted.data) if wanted.data else None
    sub.expire_in(wanted.ttl_s)
    result = replace(placed.result, expires=wanted.ttl_s is not None, ttl=seconds(wanted.ttl_s), data=data)
    return replace(placed, result=result)


async def subscribe_server_side(session: SessionState, wanted: ServerSubscription) -> None:
    """Subscribe an open session, with a ``subscribe`` push. Without effect where it is subscribed."""
    if session.closed or wanted.channel in session.subs:
        return
    since, recover = wanted.since, None
    if since is not None:
        recover = types.SubscribeRequest(recover=True, epoch=since.epoch, offset=since.offset)
    placed = await place_server_side(session, wanted, recover)
    sub, result = placed.sub, placed.result
    if session.subs.get(sub.channel) is not sub:
        return
    body = types.SubscribeBody(
        result.recoverable, result.epoch, result.offset, result.positioned, result.data
    )
    session.push("subscribe", sub.channel, body)
    insides = [bytes(raw) for raw in result.publications]
    for publication in session.codec.publications(sub.channel, insides):
        session.send(publication)
    go_live(session, placed)


def expire(session: SessionState, now: float) -> None:
    """End the subscriptions that have expired."""
    for sub in [sub for sub in session.subs.values() if sub.expires_at is not None]:
        if sub.expires_at is not None and sub.expires_at <= now:
            if sub.is_server_side:
                session.disconnect("subscription_expired")
                return
            sub.end(*_EXPIRED)


def seconds(duration_s: float | None) -> int:
    """A duration in the protocol: whole seconds; 0 only for ``None``."""
    return 0 if duration_s is None else max(1, round(duration_s))


def _check(request: types.SubscribeRequest) -> None:
    if request.delta not in ("", "fossil"):
        raise Refused("bad_request", f"unknown delta {request.delta[:32]!r}")
    if request.type:
        raise Refused("not_available", "map and shared-poll subscriptions are not supported")
    if request.tf:
        raise Refused("bad_request", "tags filters are not supported")


def _begin(session: SessionState, channel: Channel, *, is_server_side: bool) -> ClientSubscription:
    """Add a subscription that is being made, so that a second one is refused meanwhile."""
    subs = session.subs
    if channel in subs:
        raise Refused("already_subscribed", f"already subscribed to {channel!r}")
    limit = session.settings.max_channels
    if len(subs) >= limit:
        what = "channels of this connection"
        raise LimitExceeded("too_many_channels", what, len(subs) + 1, limit, "max_channels_per_connection")
    sub = subs[channel] = ClientSubscription(session, channel, is_server_side=is_server_side)
    return sub


async def _hears_members(session: SessionState, channel: Channel, rules: Rules, *, asked: bool) -> bool:
    """Whether a client receives joins and leaves, where there are any: all do where the channel forces it,
    else those who ask and may read presence."""
    if rules.force_push_join_leave or not asked:
        return rules.force_push_join_leave
    try:
        await settled(session.port.authorize(session, "presence", channel))
    except Refused:
        return False
    return True


async def _place(
    session: SessionState, sub: ClientSubscription, request: types.SubscribeRequest, rules: Rules
) -> Placed:
    asks = request.recoverable or request.recover
    recoverable = rules.force_recovery or (rules.allow_recovery and asks)
    positioned = recoverable or rules.force_positioning or (rules.allow_positioning and request.positioned)
    channel = sub.channel
    publications: list[Publication] = []
    recovered, end = False, None
    if request.recover and recoverable:
        recover = _recover_newest if rules.cache else _recover
        recovered, publications, start, end = await recover(session, channel, request)
        if not recovered and request.flag & _REJECT_UNRECOVERED:
            raise Refused("unrecoverable_position", f"the stream of {channel!r} cannot be continued there")
    else:
        start = session.port.where(channel) or await _top(session, channel)
    encode = session.codec.publication
    result = types.SubscribeResult(
        recoverable=recoverable,
        positioned=positioned,
        epoch=start.epoch if positioned else "",
        offset=_before(request, publications, start, recovered=recovered) if positioned else 0,
        was_recovering=request.recover,
        recovered=recovered,
        publications=tuple([session.codec.raw(encode(publication)) for publication in publications]),
    )
    return Placed(sub, result, start, end)


def _before(
    request: types.SubscribeRequest, publications: list[Publication], start: Position, *, recovered: bool
) -> int:
    """The offset that the client continues from."""
    if recovered:
        return request.offset
    return publications[0].offset - 1 if publications else start.offset


async def _top(session: SessionState, channel: Channel) -> Position:
    known = session.port.where(channel)
    if known is not None:
        return known
    return (await settled(session.port.read(channel, NOW, limit=0))).head


async def _recover(
    session: SessionState, channel: Channel, request: types.SubscribeRequest
) -> tuple[bool, list[Publication], Position, Publication | None]:
    """Whether the client's position can be continued, the publications, where pushes begin, and the stream's
    end."""
    epoch = request.epoch or (await _top(session, channel)).epoch
    limit = session.settings.recovered_items
    read: ReadResult = await settled(session.port.read(channel, Position(epoch, request.offset), limit=limit))
    if not read.recovered and not request.from_oldest:
        return False, [], read.head, None
    start = read.publications[-1].position if read.publications else read.start
    return read.recovered, read.publications, start, read.end


async def _recover_newest(
    session: SessionState, channel: Channel, request: types.SubscribeRequest
) -> tuple[bool, list[Publication], Position, Publication | None]:
    """Recover in cache mode: the newest publication replaces all before it."""
    top = await _top(session, channel)
    before = Position(top.epoch, max(0, top.offset - 1))
    read: ReadResult = await settled(session.port.read(channel, before, limit=1))
    is_there = request.epoch in ("", read.head.epoch) and request.offset == read.head.offset
    if not read.recovered or not read.publications:
        return is_there and request.offset > 0, [], read.head, read.end
    newest = read.publications[-1]
    return True, [] if is_there else [newest], newest.position, None
