"""The hub as sessions of the Centrifugal dialect see it."""

import asyncio
import inspect
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import HTTPConnection

from heartwire.channels import to_channel
from heartwire.codes import CODES
from heartwire.core.deadlines import Deadline
from heartwire.core.switchboard import ReadResult
from heartwire.dialects.centrifugal import (
    Answer,
    ClientSubscription,
    Disconnected,
    Refreshed,
    Rules,
    ServerSide,
    SubscriptionGrant,
    TokenExpired,
    Welcome,
    publishing,
)
from heartwire.dialects.centrifugal.types import ConnectRequest
from heartwire.dialects.centrifugal.values import Action, Post
from heartwire.errors import Refused, Unauthorized
from heartwire.hub.admission import with_retry_after
from heartwire.hub.claims import ConnectionClaims, Expired, Invalid, Mismatch
from heartwire.hub.history import read_history
from heartwire.hub.hooks import Client, Disconnect, answer_bytes
from heartwire.hub.identity import ANONYMOUS, Identity, identify
from heartwire.messages import Body
from heartwire.types import NOW, Channel, Member, Position, Publication, Start

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub
    from heartwire.server.centrifugal.connection import HubSession

__all__ = ["HubPort"]

log = logging.getLogger("heartwire")

MAX_IN_FLIGHT: Final = 64
"""Publishes of one connection that wait for the engine; over that its commands wait too."""

_READ_BYTES: Final = 64 * 1024


class HubPort:
    """`heartwire.dialects.centrifugal.Port` to one hub."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub

    # -- who -------------------------------------------------------------------------------------------------

    def connect(self, session: "HubSession", request: ConnectRequest) -> Answer[Welcome]:
        """See `Port.connect`. A token of the command counts, else the application is asked about the request.

        Before that, so that a crowd costs as little as it can, it has to be the client's turn; batches of
        commands have none.
        """
        hub = self._hub
        if hub.draining:
            raise Disconnected("going_away")
        connection = session.outlet
        scope, connection.scope = connection.scope, None
        if not connection.is_stateless:
            wait_s = hub.connections.turn_s(session.now)
            if wait_s:
                raise Disconnected(
                    "too_many_connects", with_retry_after(CODES["too_many_connects"].reason, wait_s)
                )
        claims = self._claims(request.token) if request.token and hub.tokens is not None else None
        if hub.hooks.connect is not None or (claims is None and hub.authenticator is not None):
            assert scope is not None
            return hub.hooks.task(self._connect(session, scope, request, claims))
        if claims is None:
            return self._welcome(session, ANONYMOUS, None)
        return self._welcome(session, Identity(claims.user, claims.info), claims)

    async def _connect(
        self,
        session: "HubSession",
        scope: dict[str, Any],
        request: ConnectRequest,
        claims: ConnectionClaims | None,
    ) -> Welcome:
        hub = self._hub
        if claims is not None:
            identity = Identity(claims.user, claims.info)
        else:
            identity = await identify(hub.authenticator, _request(scope, request.token))
        welcome = self._welcome(session, identity, claims)
        if hub.hooks.connect is None or session.closed:
            return welcome
        data = session.codec.value(bytes(request.data))
        client = Client(session, data=data, name=request.name, version=request.version)
        answer = hub.hooks.connect(client)
        if inspect.isawaitable(answer):
            answer = await answer
        return welcome._replace(data=answer_bytes(answer), subs=[*welcome.subs, *(client.wanted or ())])

    def _welcome(self, session: "HubSession", identity: Identity, claims: ConnectionClaims | None) -> Welcome:
        session.outlet.become(identity)
        subs: list[ServerSide] = []
        ttl_s = None
        if claims is not None:
            subs = [ServerSide(channel, sub.info, data=sub.data) for channel, sub in claims.subs.items()]
            ttl_s = self._ttl_s(claims.expires_at)
        personal = self._hub.namespaces.personal(identity.user)
        if personal is not None:
            subs.append(ServerSide(personal))
        return Welcome(identity.user, identity.info, ttl_s, None, subs)

    def _claims(self, token: str) -> ConnectionClaims:
        assert self._hub.tokens is not None
        claims = self._hub.tokens.connection(token, self._hub.wall_clock())
        match claims:
            case Expired():
                raise TokenExpired
            case Invalid(reason):
                raise Unauthorized(reason)
        return claims

    def _ttl_s(self, expires_at: float | None) -> float | None:
        """Seconds from now. Raises `TokenExpired`."""
        if expires_at is None:
            return None
        ttl_s = expires_at - self._hub.wall_clock()
        if ttl_s <= 0:
            raise TokenExpired
        return ttl_s

    def refresh(self, session: "HubSession", token: str) -> Refreshed:
        """See `Port.refresh`."""
        if self._hub.tokens is None:
            raise Refused("not_available", "this server takes no tokens")
        claims = self._claims(token)
        if claims.user != session.user:
            raise Unauthorized("it is of another user")
        return Refreshed(self._ttl_s(claims.expires_at))

    def grant(
        self, session: "HubSession", channel: Channel, token: str, data: bytes
    ) -> Answer[SubscriptionGrant]:
        """See `Port.grant`."""
        if not token or self._hub.tokens is None:
            if not self._hub.namespaces.asks(channel, "subscribe"):
                return SubscriptionGrant()
            return self._granted(session, channel, SubscriptionGrant(), has_token=False)
        refreshed = self._subscription(
            session, channel, token, Disconnected("unauthorized", "invalid token: not for this")
        )
        return self._granted(
            session, channel, SubscriptionGrant(refreshed.ttl_s, refreshed.info), has_token=True
        )

    async def _granted(
        self, session: "HubSession", channel: Channel, grant: SubscriptionGrant, *, has_token: bool
    ) -> SubscriptionGrant:
        wait = self._authorize(session, "subscribe", channel, has_token=has_token)
        await wait
        return grant

    def sub_refresh(self, session: "HubSession", channel: str, token: str) -> Refreshed:
        """See `Port.sub_refresh`."""
        if self._hub.tokens is None:
            raise Refused("not_available", "this server takes no tokens")
        return self._subscription(session, channel or None, token, Unauthorized("not for this"))

    def _subscription(
        self, session: "HubSession", channel: str | None, token: str, mismatch: Exception
    ) -> Refreshed:
        assert self._hub.tokens is not None
        claims = self._hub.tokens.subscription(
            token, self._hub.wall_clock(), user=session.user, channel=channel
        )
        match claims:
            case Expired():
                raise TokenExpired
            case Mismatch():
                raise mismatch
            case Invalid(reason):
                raise Unauthorized(reason)
        return Refreshed(self._ttl_s(claims.expires_at), claims.channel, claims.info)

    def authorize(self, session: "HubSession", action: Action, channel: Channel) -> Answer[None]:
        """See `Port.authorize`."""
        if not self._hub.namespaces.asks(channel, action):
            return None
        return self._authorize(session, action, channel)

    def _authorize(
        self, session: "HubSession", action: Action, channel: Channel, *, has_token: bool = False
    ) -> Awaitable[None]:
        follower = session.subs.get(channel)
        asked = self._hub.namespaces.authorize(
            session.outlet.identity,
            action,
            channel,
            is_subscriber=follower is not None
            and (follower.subscription is not None or session.outlet.is_stateless),
            has_token=has_token,
        )
        # The application's function gets a task; where there is none, nothing is waited for, and no task is
        # needed.
        return self._hub.hooks.task(asked) if self._hub.namespaces.asks_application(channel) else asked

    # -- the life of a connection ----------------------------------------------------------------------------

    def opened(self, session: "HubSession") -> None:
        """See `Port.opened`."""
        self._hub.sessions.add(session)
        self._hub.liveness.watch(session, spread=random.uniform(0.5, 1))

    def ended(self, session: "HubSession", code: int, reason: str) -> None:
        """See `Port.ended`."""
        self._hub.sessions.discard(session)
        self._hub.hooks.call_disconnect(Client(session), Disconnect(code, reason))

    def call_at(self, when: float, session: "HubSession") -> Deadline:
        """See `Port.call_at`."""
        return self._hub.deadlines.at(when, session)

    def soon(self, work: Callable[[], None]) -> None:
        """See `Port.soon`."""
        self._hub.loop.call_soon(work)

    def failed(self, session: "HubSession", what: str, error: BaseException) -> None:
        """See `Port.failed`."""
        log.error("%s of client %s (user %r) failed", what, session.client, session.user, exc_info=error)

    # -- channels --------------------------------------------------------------------------------------------

    def channel(self, session: "HubSession", name: str) -> Channel:
        """See `Port.channel`."""
        channel = to_channel(name)
        self._hub.namespaces.of(channel)
        return channel

    def rules(self, channel: Channel) -> Rules:
        """See `Port.rules`."""
        options = self._hub.namespaces.of(channel)
        return Rules(
            presence=options.presence,
            join_leave=options.join_leave,
            force_push_join_leave=options.force_push_join_leave,
            force_positioning=options.force_positioning,
            force_recovery=options.force_recovery,
            cache=options.force_recovery_mode == "cache",
        )

    def where(self, channel: Channel) -> Position | None:
        """See `Port.where`."""
        topic = self._hub.switchboard.topics.get(channel)
        if topic is None or not topic.epoch:
            return None
        topic.flush()
        return topic.position

    def read(self, channel: Channel, start: Start, *, limit: int) -> Answer[ReadResult]:
        """See `Port.read`."""
        topic = self._hub.switchboard.topics.get(channel)
        if topic is not None and topic.epoch and start is not NOW:
            assert isinstance(start, Position)
            topic.flush()
            if topic.covers(start):
                return ReadResult(start, topic.after(start.offset)[:limit], topic.position, True)
        return self._hub.read(channel, start, limit=limit, max_bytes=_READ_BYTES)

    async def history(
        self, channel: Channel, *, limit: int, since: Position | None, reverse: bool
    ) -> tuple[list[Publication], Position]:
        """See `Port.history`."""
        page = await read_history(
            self._hub,
            channel,
            limit=limit,
            since_offset=None if since is None else since.offset,
            since_epoch="" if since is None else since.epoch,
            reverse=reverse,
        )
        return page.publications, page.head

    def follow(self, session: "HubSession", follower: ClientSubscription, start: Position) -> None:
        """See `Port.follow`."""
        session.outlet.follow(follower, start)

    def unfollow(self, session: "HubSession", follower: ClientSubscription) -> None:
        """See `Port.unfollow`."""
        subscription, follower.subscription = follower.subscription, None
        if subscription is not None:
            self._hub.unfollow_one(session.outlet.link, subscription)

    def members(self, channel: Channel) -> Awaitable[list[Member]]:
        """See `Port.members`."""
        return self._hub.hooks.task(self._hub.engine.members(channel))

    # -- what clients say ------------------------------------------------------------------------------------

    def publish(
        self, session: "HubSession", name: str, post: Post, done: Callable[[Position | BaseException], None]
    ) -> Awaitable[None] | None:
        """See `Port.publish`. The size is within the limit, because the whole frame is."""
        channel = self.channel(session, name)
        publishing.take_token(session)
        if self._hub.namespaces.asks(channel, "publish"):
            return self._publish_permitted(session, channel, post, done)
        return self._publish(session, channel, post, done)

    async def _publish_permitted(
        self,
        session: "HubSession",
        channel: Channel,
        post: Post,
        done: Callable[[Position | BaseException], None],
    ) -> None:
        await self._authorize(session, "publish", channel)
        wait = self._publish(session, channel, post, done)
        if wait is not None:
            await wait

    def _publish(
        self,
        session: "HubSession",
        channel: Channel,
        post: Post,
        done: Callable[[Position | BaseException], None],
    ) -> Awaitable[None] | None:
        hooks = self._hub.hooks
        if hooks.publish is None:
            return self._append(session, channel, post, done)
        changed = hooks.call_publish(session.outlet.identity, channel, Body(post.is_text, post.data))
        if isinstance(changed, Body):
            return self._append(session, channel, _changed(post, changed), done)
        return self._append_changed(session, channel, post, changed, done)

    async def _append_changed(
        self,
        session: "HubSession",
        channel: Channel,
        post: Post,
        body: Awaitable[Body],
        done: Callable[[Position | BaseException], None],
    ) -> None:
        wait = self._append(session, channel, _changed(post, await body), done)
        if wait is not None:
            await wait

    def _append(
        self,
        session: "HubSession",
        channel: Channel,
        post: Post,
        done: Callable[[Position | BaseException], None],
    ) -> Awaitable[None] | None:
        # Again: one before it may have failed while the application was asked.
        publishing.keep_order(session, post.key, post.round)
        connection = session.outlet
        body = Body(post.is_text, post.data)
        answer = self._hub.append(
            channel, body, connection.publisher, key=post.key or None, origin=connection.link.serial
        )
        if not isinstance(answer, asyncio.Future):
            done(answer)
            return None
        answer.add_done_callback(partial(_appended, done))
        return connection.pipeline(answer)

    def rpc(self, session: "HubSession", method: str, data: bytes) -> Answer[bytes | None]:
        """See `Port.rpc`."""
        hooks = self._hub.hooks
        return hooks.call_rpc(Client(session), method, session.codec.value(data) if hooks.rpc else None)

    def send(self, session: "HubSession", data: bytes) -> Answer[None]:
        """See `Port.send`."""
        handler = self._hub.hooks.message
        if handler is None:
            raise Disconnected("not_available")
        answer = handler(Client(session), session.codec.value(data))
        return self._hub.hooks.task(answer) if inspect.isawaitable(answer) else None


def _request(scope: dict[str, Any], token: str) -> HTTPConnection:
    """The request that opened the connection, for the application; a token of ``connect`` is shown as a
    bearer's."""
    headers = scope["headers"]
    if token:
        headers = [*((name, value) for name, value in headers if name != b"authorization"), _bearer(token)]
    return HTTPConnection({**scope, "headers": headers})


def _bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + token.encode()


def _changed(post: Post, body: Body) -> Post:
    return post._replace(data=body.data, is_text=body.is_text)


def _appended(done: Callable[[Position | BaseException], None], answer: "asyncio.Future[Position]") -> None:
    done(asyncio.CancelledError() if answer.cancelled() else answer.exception() or answer.result())
