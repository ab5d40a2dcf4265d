"""Commands that begin and prolong a connection: connect, refresh."""

from heartwire.core.waiting import settled
from heartwire.dialects.centrifugal import subscribing, types
from heartwire.dialects.centrifugal.state import NEW, SessionState
from heartwire.dialects.centrifugal.subscribing import Placed, seconds
from heartwire.dialects.centrifugal.values import Disconnected, TokenExpired, Welcome
from heartwire.errors import Refused, Unauthorized
from heartwire.types import Member

__all__ = ["connect", "refresh"]


async def connect(session: SessionState, id: int, request: types.ConnectRequest) -> None:
    """Open the session, with its server-side subscriptions.

    A refusal is an error reply, after which nothing more is answered; a bad token ends the connection.
    """
    if session.phase is not NEW:
        raise Disconnected("bad_request", "bad request: connected already")
    try:
        answer = session.port.connect(session, request)
        welcome = answer if isinstance(answer, Welcome) else await answer
        session.member = Member(session.client, welcome.user, welcome.info)
        placed = await _place(session, welcome, request) if welcome.subs else []
    except Exception as error:
        if isinstance(error, Disconnected):
            raise
        if isinstance(error, Unauthorized) and not isinstance(error, TokenExpired):
            raise Disconnected("unauthorized", f"invalid token: {error.message}") from None
        session.drop_subs()
        if session.phase is NEW:
            session.refuse(id, "connect", error)
            session.move("refused")
        return
    if session.phase is not NEW:  # ended meanwhile
        return
    session.move("connected")
    session.expires_at = session.expiry(welcome.ttl_s)
    session.set_deadline()
    session.reply(id, "connect", _result(session, welcome, placed))
    session.port.opened(session)
    for one in placed:
        subscribing.go_live(session, one)


async def _place(session: SessionState, welcome: Welcome, request: types.ConnectRequest) -> list[Placed]:
    """Place the server-side subscriptions, as long as the session has not ended."""
    placed: list[Placed] = []
    for wanted in welcome.subs:
        if session.phase is not NEW:
            break
        if len(session.subs) >= session.settings.max_channels:
            raise Disconnected("too_many_channels")
        if wanted.channel not in session.subs:
            recover = request.subs.get(wanted.channel)
            placed.append(await subscribing.place_server_side(session, wanted, recover))
    return placed


def _result(session: SessionState, welcome: Welcome, placed: list[Placed]) -> types.ConnectResult:
    id, node = session.emulation
    return types.ConnectResult(
        client=session.client,
        version=session.settings.version,
        expires=welcome.ttl_s is not None,
        ttl=seconds(welcome.ttl_s),
        data=session.codec.payload(welcome.data) if welcome.data else None,
        subs={one.sub.channel: one.result for one in placed},
        ping=seconds(session.settings.ping_interval_s),
        pong=session.pong,
        session=id,
        node=node,
    )


async def refresh(session: SessionState, id: int, request: types.RefreshRequest) -> None:
    """Take a new connection token."""
    if not request.token:
        raise Refused("bad_request", "refresh without a token")
    try:
        refreshed = await settled(session.port.refresh(session, request.token))
    except TokenExpired:
        raise Disconnected("connection_expired") from None
    except Unauthorized as error:
        raise Disconnected("unauthorized", f"invalid token: {error.message}") from None
    session.expires_at = session.expiry(refreshed.ttl_s)
    session.reply(id, "refresh", types.RefreshResult(refreshed.ttl_s is not None, seconds(refreshed.ttl_s)))
