"""Subscriptions of a session: how they begin, recover, expire and end.

A subscription is placed first: a position is found, and what came after the client's old one is read. Then
the reply is written, and only then does the core deliver what follows that very position. So nothing is lost
or doubled between the reply and the pushes, whatever was published meanwhile; and a way that is too long for
one reply goes on as pushes.

The core tells of a gap (`Follower.gap`): a client-side subscription then ends with 2500, at which clients
subscribe anew from their last position and are told whether it can be continued; a server-side one ends the
connection with 3010.
"""

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from heartwire.core.subscription import Subscription
from heartwire.core.switchboard import ReadResult
from heartwire.core.waiting import settled
from heartwire.dialects.centrifugal.port import Disconnected, Rules, ServerSide, TokenExpired
from heartwire.dialects.centrifugal.types import (
    Empty,
    RefreshResult,
    SubRefreshRequest,
    SubscribeBody,
    SubscribeRequest,
    SubscribeResult,
    UnsubscribeBody,
    UnsubscribeRequest,
)
from heartwire.errors import Forbidden, LimitExceeded, Refused, Unauthorized
from heartwire.types import NOW, Channel, Member, Position, Publication

if TYPE_CHECKING:
    from heartwire.dialects.centrifugal.session import Session

__all__ = [
    "Follower",
    "Placed",
    "end",
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
_NOT_RECOVERING: Final = SubscribeRequest()
_INSUFFICIENT: Final = (2500, "insufficient state")
_EXPIRED: Final = (2501, "subscription expired")


class Follower:
    """One subscription of a session: `ChannelListener`.

    Attributes:
        subscription: the core's; ``None`` while it is being made.
        is_server_side: the server has made it.
        hears_members: gets joins and leaves.
        expires_at: monotonic seconds, with the grace; ``None``: it does not.
    """

    __slots__ = (
        "channel",
        "expires_at",
        "hears_members",
        "is_server_side",
        "member",
        "session",
        "subscription",
    )

    def __init__(self, session: "Session", channel: Channel, *, is_server_side: bool = False) -> None:
        self.session = session
        self.channel = channel
        self.is_server_side = is_server_side
        self.subscription: Subscription | None = None
        self.hears_members = False
        self.expires_at: float | None = None
        self.member: Member = session.member

    def inform(self, chan_info: bytes | None) -> None:
        """What the channel is to know of them."""
        member = self.session.member
        self.member = Member(member.client, member.user, member.info, chan_info) if chan_info else member

    def expire_in(self, ttl_s: float | None) -> None:
        """How long it lasts from now on."""
        session = self.session
        self.expires_at = None if ttl_s is None else session.now + ttl_s + session.limits.grace_s
        if self.expires_at is not None:
            session.call_by(self.expires_at)

    def live(self, subscription: Subscription) -> None:
        """See `ChannelListener.live`."""
        self.subscription = subscription

    def hear(self, kind: Literal["join", "leave"], member: Member, made: dict[Any, Any]) -> None:
        """See `ChannelListener.hear`."""
        if self.hears_members:
            self.session.outlet.tell(self.channel, kind, member, made)

    def gap(self, position: Position) -> None:
        """See `ChannelListener.gap`."""
        if self.is_server_side:
            self.session.disconnect("insufficient_state")
        else:
            end(self.session, self, *_INSUFFICIENT)


class Placed(NamedTuple):
    """A subscription before it is live: what the client is told, and after which position pushes begin."""

    follower: Follower
    result: SubscribeResult
    start: Position


async def subscribe(session: "Session", id: int, request: SubscribeRequest) -> None:
    """The client subscribes."""
    _check(request)
    channel = session.port.channel(session, request.channel)
    follower = _begin(session, channel, is_server_side=False)
    try:
        try:
            grant = await settled(session.port.grant(session, channel, request.token, bytes(request.data)))
        except TokenExpired:
            raise
        except Unauthorized as error:
            raise Forbidden(error.message) from None
        follower.inform(grant.info)
        rules = session.port.rules(channel)
        follower.hears_members = await _hears_members(session, channel, rules, asked=request.join_leave)
        placed = await _place(session, follower, request, rules)
    except BaseException:
        _forget(session, follower)
        raise
    if session.subs.get(channel) is not follower:  # ended meanwhile, by the server or with the session
        raise Forbidden("unsubscribed by the server")
    data = session.codec.payload(grant.data) if grant.data else None
    follower.expire_in(grant.ttl_s)
    result = placed.result
    if grant.ttl_s is not None or data is not None:
        result = _with(result, expires=grant.ttl_s is not None, ttl=seconds(grant.ttl_s), data=data)
    session.reply(id, "subscribe", result)
    go_live(session, follower, placed.start)


def go_live(session: "Session", follower: Follower, start: Position) -> None:
    """What the client has been told goes out; from here on the core writes."""
    session.flush()
    if session.subs.get(follower.channel) is follower:
        session.port.follow(session, follower, start)


async def unsubscribe(session: "Session", id: int, request: UnsubscribeRequest) -> None:
    """The client unsubscribes. One that is not there is as good as ended."""
    if not request.channel:
        raise Disconnected("bad_request", "bad request: unsubscribe without a channel")
    follower = session.subs.get(request.channel)
    if follower is not None:
        _forget(session, follower)
        session.port.unfollow(follower)
    session.reply(id, "unsubscribe", Empty())


async def sub_refresh(session: "Session", id: int, request: SubRefreshRequest) -> None:
    """A new subscription token. Where the channel is missing (centrifuge-python 0.5.0) it is taken from the
    token."""
    if request.type:
        raise Refused("not_available", "map and shared-poll subscriptions are not there")
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
    follower = session.subs.get(refreshed.channel)
    if follower is None:
        raise Forbidden("not subscribed")
    follower.expire_in(refreshed.ttl_s)
    session.reply(id, "sub_refresh", RefreshResult(refreshed.ttl_s is not None, seconds(refreshed.ttl_s)))


# -- server-side ---------------------------------------------------------------------------------------------


async def place_server_side(session: "Session", sub: ServerSide, recover: SubscribeRequest | None) -> Placed:
    """Place a subscription that the server makes."""
    channel = session.port.channel(session, sub.channel)
    follower = _begin(session, channel, is_server_side=True)
    try:
        follower.inform(sub.info)
        rules = session.port.rules(channel)
        follower.hears_members = rules.join_leave and (rules.force_push_join_leave or sub.join_leave)
        asked = recover or _NOT_RECOVERING
        wanted = SubscribeRequest(
            recover=asked.recover,
            offset=asked.offset,
            epoch=asked.epoch,
            positioned=sub.positioned or asked.positioned,
            recoverable=sub.recoverable or asked.recoverable,
        )
        placed = await _place(session, follower, wanted, rules)
    except BaseException:
        _forget(session, follower)
        raise
    data = session.codec.payload(sub.data) if sub.data else None
    follower.expire_in(sub.ttl_s)
    result = _with(placed.result, expires=sub.ttl_s is not None, ttl=seconds(sub.ttl_s), data=data)
    return Placed(follower, result, placed.start)


async def subscribe_server_side(
    session: "Session", sub: ServerSide, recover: SubscribeRequest | None
) -> None:
    """Subscribe an open session, and tell it."""
    if session.closed or sub.channel in session.subs:
        return
    follower, result, start = await place_server_side(session, sub, recover)
    if session.subs.get(follower.channel) is not follower:
        return
    body = SubscribeBody(result.recoverable, result.epoch, result.offset, result.positioned, result.data)
    session.send(session.codec.push("subscribe", follower.channel, body))
    for publication in session.codec.publications(
        follower.channel, [bytes(raw) for raw in result.publications]
    ):
        session.send(publication)
    go_live(session, follower, start)


# -- the end -------------------------------------------------------------------------------------------------


def end(session: "Session", follower: Follower, code: int, reason: str) -> None:
    """End a subscription from our side, and tell the client."""
    _forget(session, follower)
    session.port.unfollow(follower)
    session.send(session.codec.push("unsubscribe", follower.channel, UnsubscribeBody(code, reason)))
    session.flush()


def expire(session: "Session", now: float) -> None:
    """End the subscriptions whose time is over."""
    for follower in [follower for follower in session.subs.values() if follower.expires_at is not None]:
        if follower.expires_at is not None and follower.expires_at <= now:
            if follower.is_server_side:
                session.disconnect("subscription_expired")
                return
            end(session, follower, *_EXPIRED)


# -- inside --------------------------------------------------------------------------------------------------


def seconds(duration_s: float | None) -> int:
    """A duration as the protocol says it: whole seconds; never 0, which would mean that there is none."""
    return 0 if duration_s is None else max(1, round(duration_s))


def _check(request: SubscribeRequest) -> None:
    if not request.channel:
        raise Disconnected("bad_request", "bad request: subscribe without a channel")
    if request.delta not in ("", "fossil"):
        raise Disconnected("bad_request", "bad request: unknown delta")
    if request.type:
        raise Refused("not_available", "map and shared-poll subscriptions are not there")
    if request.tf:
        raise Refused("bad_request", "tags filters are not there")


def _begin(session: "Session", channel: Channel, *, is_server_side: bool) -> Follower:
    """Note that a subscription is being made, so that a second one is refused meanwhile."""
    subs = session.subs
    if channel in subs:
        raise Refused("already_subscribed", f"already subscribed to {channel!r}")
    limit = session.limits.max_channels
    if len(subs) >= limit:
        what = "channels of this connection"
        raise LimitExceeded("too_many_channels", what, len(subs) + 1, limit, "max_channels_per_connection")
    follower = subs[channel] = Follower(session, channel, is_server_side=is_server_side)
    return follower


def _forget(session: "Session", follower: Follower) -> None:
    if session.subs.get(follower.channel) is follower:
        del session.subs[follower.channel]


async def _hears_members(session: "Session", channel: Channel, rules: Rules, *, asked: bool) -> bool:
    """Joins and leaves go to everybody where the channel says so, else to those who ask and may read
    presence."""
    if not rules.join_leave or rules.force_push_join_leave or not asked:
        return rules.join_leave and rules.force_push_join_leave
    try:
        await settled(session.port.authorize(session, "presence", channel))
    except Refused:
        return False
    return True


async def _place(session: "Session", follower: Follower, request: SubscribeRequest, rules: Rules) -> Placed:
    asks = request.recoverable or request.recover
    recoverable = rules.force_recovery or (rules.allow_recovery and asks)
    positioned = recoverable or rules.force_positioning or (rules.allow_positioning and request.positioned)
    channel = follower.channel
    publications: list[Publication] = []
    recovered = False
    if request.recover and recoverable:
        recover = _recover_newest if rules.cache else _recover
        recovered, publications, start = await recover(session, channel, request)
        if not recovered and request.flag & _REJECT_UNRECOVERED:
            raise Refused("unrecoverable_position", f"the stream of {channel!r} cannot be continued there")
    else:
        start = await _top(session, channel)
    encode = session.codec.publication
    result = SubscribeResult(
        recoverable=recoverable,
        positioned=positioned,
        epoch=start.epoch if positioned else "",
        offset=_before(request, publications, start, recovered=recovered) if positioned else 0,
        was_recovering=request.recover,
        recovered=recovered,
        publications=tuple(session.codec.raw(encode(publication)) for publication in publications),
    )
    return Placed(follower, result, start)


def _before(
    request: SubscribeRequest, publications: list[Publication], start: Position, *, recovered: bool
) -> int:
    """The offset that the client goes on from."""
    if recovered:
        return request.offset
    return publications[0].offset - 1 if publications else start.offset


async def _top(session: "Session", channel: Channel) -> Position:
    known = session.port.where(channel)
    if known is not None:
        return known
    return (await settled(session.port.read(channel, NOW, limit=0))).head


async def _recover(
    session: "Session", channel: Channel, request: SubscribeRequest
) -> tuple[bool, list[Publication], Position]:
    """Whether the client's position can be continued, by what, and from where the pushes go on."""
    epoch = request.epoch or (await _top(session, channel)).epoch
    limit = session.limits.recovered_items
    read: ReadResult = await settled(session.port.read(channel, Position(epoch, request.offset), limit=limit))
    if not read.recovered and not request.from_oldest:
        return False, [], read.head
    return (
        read.recovered,
        read.publications,
        read.publications[-1].position if read.publications else read.start,
    )


async def _recover_newest(
    session: "Session", channel: Channel, request: SubscribeRequest
) -> tuple[bool, list[Publication], Position]:
    """Cache mode: the newest publication stands for all before it."""
    top = await _top(session, channel)
    before = Position(top.epoch, max(0, top.offset - 1))
    read: ReadResult = await settled(session.port.read(channel, before, limit=1))
    is_there = request.epoch in ("", read.head.epoch) and request.offset == read.head.offset
    if not read.recovered or not read.publications:
        return is_there and request.offset > 0, [], read.head
    newest = read.publications[-1]
    return True, [] if is_there else [newest], newest.position


def _with(result: SubscribeResult, **changes: object) -> SubscribeResult:
    return msgspec.structs.replace(result, **changes)
