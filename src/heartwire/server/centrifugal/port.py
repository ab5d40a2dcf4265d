"""The hub as sessions of the Centrifugal dialect see it."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from msgspec.structs import replace
from starlette.requests import HTTPConnection
from starlette.types import Scope

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
    SubscriptionGrant,
    TokenExpired,
    Welcome,
)
from heartwire.dialects.centrifugal import publishing as client_publishes
from heartwire.dialects.centrifugal.types import ConnectRequest
from heartwire.dialects.centrifugal.values import Done, Later, Post
from heartwire.errors import Refused, Unauthorized
from heartwire.hub.admission import with_retry_after
from heartwire.hub.claims import ConnectionClaims, Expired, Invalid, Mismatch
from heartwire.hub.hooks import ConnectedClient, answer_bytes
from heartwire.hub.identity import ANONYMOUS, Identity, NoToken, after, asked, called, finished, identify
from heartwire.hub.node import Node
from heartwire.hub.publishing import Accepted
from heartwire.server.centrifugal.connection import HubSession, ScopeOf
from heartwire.types import NOW, Action, Channel, Member, Position, Publication, ServerSubscription, Start

__all__ = ["HubPort"]

log = logging.getLogger("heartwire")

_READ_BYTES: Final = 64 * 1024

T = TypeVar("T")


class HubPort:
    """`heartwire.dialects.centrifugal.Port` to one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # -- identity --------------------------------------------------------------------------------------------

    def connect(self, session: HubSession, request: ConnectRequest) -> Answer[Welcome]:
        """See `Port.connect`. A token of the command counts, else the application is asked about the request.

        Before that, so that a crowd costs as little as it can, it has to be the client's turn; batches of
        commands have none.
        """
        node = self._node
        if node.draining:
            raise Disconnected("going_away")
        connection = session.outlet
        scope, connection.scope = connection.scope, None
        if not connection.is_stateless:
            wait_s = node.admission.wait_s(session.now)
            if wait_s:
                raise Disconnected(
                    "too_many_connects", with_retry_after(CODES["too_many_connects"].reason, wait_s)
                )
        if not request.token:
            return self._admitted(session, scope, request)
        return self._with_key(request.token, partial(self._admitted, session, scope, request))

    def _with_key(self, token: str, then: Callable[[], Answer[T]]) -> Answer[T]:
        """Do something that reads a token, once its key is there."""
        tokens = self._node.tokens
        wait = tokens.wait_for_key(token) if tokens is not None else None
        return then() if wait is None else self._node.hooks.task(after(wait, then))

    def _admitted(
        self, session: HubSession, scope: ScopeOf | None, request: ConnectRequest
    ) -> Answer[Welcome]:
        node = self._node
        claims = self._claims(request.token) if request.token and node.tokens is not None else None
        if node.hooks.connect is not None or (claims is None and node.authenticator is not None):
            assert scope is not None
            return node.hooks.task(self._connect(session, scope(), request, claims))
        if claims is None:
            return self._welcome(session, ANONYMOUS, None)
        return self._welcome(session, Identity(claims.user, claims.info), claims)

    async def _connect(
        self, session: HubSession, scope: Scope, request: ConnectRequest, claims: ConnectionClaims | None
    ) -> Welcome:
        node = self._node
        if claims is not None:
            identity = Identity(claims.user, claims.info)
        else:
            try:
                identity = await identify(node.authenticator, _request(scope, request.token))
            except NoToken as error:  # the protocol's own server tells a token that is missing from a bad one
                raise Disconnected("bad_request", f"bad request: {error.message}") from None
        welcome = self._welcome(session, identity, claims)
        if node.hooks.connect is None or session.closed:
            return welcome
        data = session.codec.value(bytes(request.data))
        client = ConnectedClient(session.outlet, data=data, name=request.name, version=request.version)
        answer = await asked(node.hooks.connect, client)
        return replace(welcome, data=answer_bytes(answer), subs=[*welcome.subs, *client.wanted])

    def _welcome(self, session: HubSession, identity: Identity, claims: ConnectionClaims | None) -> Welcome:
        session.outlet.become(identity)
        subs: list[ServerSubscription] = []
        ttl_s = None
        if claims is not None:
            subs = list(claims.subs)
            ttl_s = self._ttl_s(claims.expires_at)
        personal = self._node.namespaces.personal(identity.user)
        if personal is not None:
            subs.append(ServerSubscription(personal))
        return Welcome(identity.user, identity.info, ttl_s, None, subs)

    def _claims(self, token: str) -> ConnectionClaims:
        assert self._node.tokens is not None
        claims = self._node.tokens.connection(token, self._node.clocks.wall())
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
        ttl_s = expires_at - self._node.clocks.wall()
        if ttl_s <= 0:
            raise TokenExpired
        return ttl_s

    def refresh(self, session: HubSession, token: str) -> Answer[Refreshed]:
        """See `Port.refresh`."""
        if self._node.tokens is None:
            raise Refused("not_available", "this server takes no tokens")
        return self._with_key(token, partial(self._refreshed, session, token))

    def _refreshed(self, session: HubSession, token: str) -> Refreshed:
        claims = self._claims(token)
        if claims.user != session.user:
            raise Unauthorized("it is of another user")
        return Refreshed(self._ttl_s(claims.expires_at))

    def grant(
        self, session: HubSession, channel: Channel, token: str, data: bytes
    ) -> Answer[SubscriptionGrant]:
        """See `Port.grant`."""
        if not token or self._node.tokens is None:
            if not self._node.namespaces.asks(channel, "subscribe"):
                return SubscriptionGrant()
            return self._granted(session, channel, SubscriptionGrant(), has_token=False)
        return self._with_key(token, partial(self._by_token, session, channel, token))

    def _by_token(self, session: HubSession, channel: Channel, token: str) -> Answer[SubscriptionGrant]:
        refreshed = self._subscription(
            session, channel, token, Disconnected("unauthorized", "invalid token: not for this")
        )
        return self._granted(
            session,
            channel,
            SubscriptionGrant(refreshed.ttl_s, refreshed.info, override=refreshed.override),
            has_token=True,
        )

    async def _granted(
        self, session: HubSession, channel: Channel, grant: SubscriptionGrant, *, has_token: bool
    ) -> SubscriptionGrant:
        wait = self._authorize(session, "subscribe", channel, has_token=has_token)
        await wait
        return grant

    def sub_refresh(self, session: HubSession, channel: str, token: str) -> Answer[Refreshed]:
        """See `Port.sub_refresh`."""
        if self._node.tokens is None:
            raise Refused("not_available", "this server takes no tokens")
        mismatch = Unauthorized("not for this")
        return self._with_key(token, partial(self._subscription, session, channel or None, token, mismatch))

    def _subscription(
        self, session: HubSession, channel: str | None, token: str, mismatch: Exception
    ) -> Refreshed:
        assert self._node.tokens is not None
        claims = self._node.tokens.subscription(
            token, self._node.clocks.wall(), user=session.user, channel=channel, client=session.client
        )
        match claims:
            case Expired():
                raise TokenExpired
            case Mismatch():
                raise mismatch
            case Invalid(reason):
                raise Unauthorized(reason)
        return Refreshed(self._ttl_s(claims.expires_at), claims.channel, claims.info, claims.override)

    def authorize(self, session: HubSession, action: Action, channel: Channel) -> Answer[None]:
        """See `Port.authorize`."""
        if not self._node.namespaces.asks(channel, action):
            return None
        return self._authorize(session, action, channel)

    def _authorize(
        self, session: HubSession, action: Action, channel: Channel, *, has_token: bool = False
    ) -> Awaitable[None]:
        connection = session.outlet
        asked = self._node.namespaces.authorize(
            connection.identity,
            action,
            channel,
            is_subscriber=connection.follows(channel),
            has_token=has_token,
        )
        # A task for the application's function, so that timeouts work in it.
        return self._node.hooks.task(asked) if self._node.namespaces.asks_application(channel) else asked

    # -- life of a connection --------------------------------------------------------------------------------

    def opened(self, session: HubSession) -> None:
        """See `Port.opened`."""
        self._node.connections.index(session.outlet)
        self._node.background.liveness.watch(session, spread=self._node.clocks.chance.uniform(0.5, 1))

    def ended(self, session: HubSession, code: int, reason: str) -> None:
        """See `Port.ended`."""
        self._node.hooks.call_disconnect(session.outlet, code, reason)

    def call_at(self, when: float, session: HubSession) -> Deadline:
        """See `Port.call_at`."""
        return self._node.background.deadlines.at(when, session)

    def next_turn(self) -> Awaitable[None]:
        """See `Port.next_turn`."""
        return self._node.turn()

    def soon(self, work: Callable[[], None]) -> None:
        """See `Port.soon`."""
        self._node.loop.call_soon(work)

    def failed(self, session: HubSession, what: str, error: BaseException) -> None:
        """See `Port.failed`."""
        log.error("%s of client %s (user %r) failed", what, session.client, session.user, exc_info=error)

    # -- channels --------------------------------------------------------------------------------------------

    def channel(self, session: HubSession, name: str) -> Channel:
        """See `Port.channel`."""
        channel = to_channel(name)
        self._node.namespaces.of(channel)
        return channel

    def rules(self, channel: Channel) -> Rules:
        """See `Port.rules`."""
        options = self._node.namespaces.of(channel)
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
        topic = self._node.switchboard.topics.get(channel)
        if topic is None or not topic.epoch:
            return None
        topic.flush()
        return topic.position

    def read(self, channel: Channel, start: Start, *, limit: int) -> Answer[ReadResult]:
        """See `Port.read`."""
        topic = self._node.switchboard.topics.get(channel)
        if topic is not None and topic.epoch and start is not NOW:
            assert isinstance(start, Position)
            topic.flush()
            if topic.covers(start):
                kept = topic.after(start.offset)[:limit]
                end = kept.pop() if kept and kept[-1].is_end else None
                if start == topic.position:
                    end = topic.end
                return ReadResult(start, kept, topic.position, True, end)
        return self._node.history.read(channel, start, limit=limit, max_bytes=_READ_BYTES)

    async def history(
        self, channel: Channel, *, limit: int, since: Position | None, reverse: bool
    ) -> tuple[list[Publication], Position]:
        """See `Port.history`."""
        offset, epoch = (None, "") if since is None else (since.offset, since.epoch)
        read = self._node.history.page
        page = await read(channel, limit=limit, since_offset=offset, since_epoch=epoch, reverse=reverse)
        return page.publications, page.head

    def follow(self, session: HubSession, subscription: ClientSubscription, start: Position) -> None:
        """See `Port.follow`."""
        session.outlet.follow(subscription, start)

    def unfollow(self, session: HubSession, subscription: ClientSubscription) -> None:
        """See `Port.unfollow`."""
        followed, subscription.subscription = subscription.subscription, None
        if followed is not None:
            self._node.presence.unfollow(session.outlet.link, followed)

    def members(self, channel: Channel) -> Awaitable[list[Member]]:
        """See `Port.members`."""
        return self._node.hooks.task(self._node.presence.members(channel))

    # -- publish, rpc, send ----------------------------------------------------------------------------------

    def publish(self, session: HubSession, name: str, post: Post) -> Position | Later:
        """See `Port.publish`."""
        connection, publishing = session.outlet, self._node.publishing
        followed = session.subs.get(name)
        channel = to_channel(name) if followed is None else followed.channel
        key = post.key or None
        # Again right before the append: an earlier one may have failed while the application was asked.
        recheck = (
            partial(client_publishes.keep_order, session, post.key, post.round) if key is not None else None
        )
        answer = publishing.publish(connection, channel, post.is_text, post.data, key=key, recheck=recheck)
        if isinstance(answer, Position):
            return answer
        return lambda done: publishing.settle(connection, answer, partial(_report, done))

    def rpc(self, session: HubSession, method: str, data: bytes) -> Answer[bytes | None]:
        """See `Port.rpc`."""
        hooks = self._node.hooks
        return hooks.call_rpc(
            ConnectedClient(session.outlet), method, session.codec.value(data) if hooks.rpc else None
        )

    def send(self, session: HubSession, data: bytes) -> Answer[None]:
        """See `Port.send`."""
        handler = self._node.hooks.message
        if handler is None:
            raise Disconnected("not_available")
        answer = called(handler, ConnectedClient(session.outlet), session.codec.value(data))
        return self._node.hooks.task(finished(answer)) if inspect.isawaitable(answer) else None


def _request(scope: Scope, token: str) -> HTTPConnection:
    """The request that opened the connection, for the application, with a token of ``connect`` as a
    bearer's."""
    headers = scope["headers"]
    if token:
        headers = [*((name, value) for name, value in headers if name != b"authorization"), _bearer(token)]
    return HTTPConnection({**scope, "headers": headers})


def _bearer(token: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + token.encode()


def _report(done: Done, answer: Accepted) -> None:
    if isinstance(answer, Position):
        done(answer)
    else:
        done(asyncio.CancelledError() if answer.cancelled() else answer.exception() or answer.result())
