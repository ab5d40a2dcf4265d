"""The one way of a publish, for every dialect, the HTTP API and the application.

Always in this order: the channel's name (a `Channel` has passed `to_channel`) and namespace, size and
idempotency key, rate, permission, hook, append.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeAlias

from heartwire.channels import check_idempotency_key
from heartwire.core.limits import TokenBucket
from heartwire.core.waiting import settled
from heartwire.engines.contract import Engine, Retention
from heartwire.errors import HeartwireError
from heartwire.hub.admission import take_token
from heartwire.hub.clocks import Clocks
from heartwire.hub.hooks import Hooks
from heartwire.hub.identity import Identity
from heartwire.hub.namespaces import Namespaces
from heartwire.hub.options import HubOptions
from heartwire.messages import Body, check_message_size, message_too_large
from heartwire.streams.record import Claim
from heartwire.streams.streams import Streams
from heartwire.types import Channel, Message, Position, Publisher

__all__ = ["Accepted", "Author", "Publishing", "publisher_of"]

log = logging.getLogger("heartwire")

MAX_IN_FLIGHT: Final = 64
"""Publishes of one connection that wait for the engine; over that the connection waits too."""

Accepted: TypeAlias = Position | asyncio.Future[Position]
"""The engine has it, or will answer."""


class Author(Protocol):
    """The client that publishes: a connection, or one request.

    Attributes:
        publisher: what its publications name; ``None``: nobody.
        bucket: what its publishes are counted in; ``None``: they are not.
        free: set from `Publishing.free` where its channel is the same for all its publishes.
        serial: its link's, which tells its own publications from those of others; 0: it has none.
        in_flight: belongs to `Publishing`; starts as ``None``.
    """

    identity: Identity
    publisher: Publisher | None
    bucket: TokenBucket | None
    free: Retention | None
    in_flight: deque[asyncio.Future[Position]] | None

    @property
    def serial(self) -> int: ...

    def follows(self, channel: Channel) -> bool:
        """Whether it follows the channel, by permission."""


class Publishing:
    """The publishes of one node."""

    def __init__(
        self,
        engine: Engine,
        streams: Streams,
        namespaces: Namespaces,
        hooks: Hooks,
        options: HubOptions,
        clocks: Clocks,
    ) -> None:
        self._engine = engine
        self._streams = streams
        self._namespaces = namespaces
        self._hooks = hooks
        self._clocks = clocks
        self._max_bytes = options.max_message_bytes
        self._key_ttl_s = options.idempotency_window_s

    def publish(
        self,
        author: Author | None,
        channel: Channel,
        is_text: bool,
        data: bytes,
        *,
        key: str | None = None,
        publisher: Publisher | None = None,
        recheck: Callable[[], None] | None = None,
    ) -> Accepted | Coroutine[Any, Any, Accepted]:
        """Check and append one message.

        Args:
            author: the client; ``None``: the application, which is neither limited nor asked.
            key: idempotency key.
            publisher: what the application's publication names.
            recheck: called right before the append, where something was waited for before it; it may raise.
        Returns:
            What the engine answered; or, where the application has to be asked, a coroutine that returns
            that. The next message of the same author must wait for the coroutine, not for the engine.
        Raises:
            LimitExceeded, Refused (``too_many_requests``, ``forbidden``, ``bad_idempotency_key``),
            UnknownChannel, EngineUnavailable; of a durable stream also Refused (``stream_not_found``,
            ``stream_gone``, ``stream_full``), StreamClosed: nothing was published; at once, or when awaited.
        Promises: calls in order are applied in order; cancelling does not undo an append.
        """
        free = None
        if author is None:
            self._namespaces.of(channel)
        else:
            free = author.free or self._namespaces.free_retention(channel)
        if len(data) > self._max_bytes:
            raise message_too_large(len(data), self._max_bytes)
        if key is not None:
            check_idempotency_key(key)
        if author is None:
            return self._append(channel, Message(data, is_text, publisher), key)
        message = Message(data, is_text, author.publisher, author.serial)
        if author.bucket is not None:
            take_token(author.bucket, self._clocks.monotonic())
        if free is None:
            return self._ask(author, channel, message, key, recheck)
        if key is not None:
            return self._append(channel, message, key)
        return self._engine.append(channel, message, free)  # measured: all that most publishes pay for

    async def publish_and_wait(
        self,
        author: Author | None,
        channel: Channel,
        is_text: bool,
        data: bytes,
        *,
        key: str | None = None,
        publisher: Publisher | None = None,
    ) -> Position:
        """`publish`, and wait until the engine has it."""
        answer = self.publish(author, channel, is_text, data, key=key, publisher=publisher)
        accepted: Accepted = await settled(answer) if isinstance(answer, Coroutine) else answer
        return await settled(accepted)

    async def admit(self, author: Author, channel: Channel, bodies: Sequence[Body]) -> list[Body]:
        """Check messages of a client that are kept together, and not by `publish`.

        Returns what the application makes of them. Raises what `publish` raises for a client's message.
        """
        if author.bucket is not None:
            take_token(author.bucket, self._clocks.monotonic())
        await self._namespaces.authorize(author.identity, "publish", channel)
        made = [await self._hooked(author.identity, channel, body) for body in bodies]
        for body in made:
            check_message_size(len(body.data), self._max_bytes)
        return made

    def free(self, author: Author, channel: Channel) -> Retention | None:
        """How much the channel keeps, where its author needs no further check there; else ``None``."""
        return None if author.bucket is not None else self._namespaces.free_retention(channel)

    def _append(self, channel: Channel, message: Message, key: str | None) -> Accepted:
        if self._namespaces.is_durable(channel):
            return asyncio.ensure_future(self._append_to_stream(channel, message, key))
        keep = self._namespaces.retention(channel)
        return self._engine.append(channel, message, keep, key=key, key_ttl_s=self._key_ttl_s)

    async def _append_to_stream(self, channel: Channel, message: Message, key: str | None) -> Position:
        claim = Claim(key=key or "", key_ttl_s=self._key_ttl_s)
        return (await self._streams.append(channel, [message], claim))[1]

    async def _ask(
        self,
        author: Author,
        channel: Channel,
        message: Message,
        key: str | None,
        recheck: Callable[[], None] | None,
    ) -> Accepted:
        identity = author.identity
        is_subscriber = author.follows(channel)
        asked = self._namespaces.authorize(identity, "publish", channel, is_subscriber=is_subscriber)
        # In a task, so that timeouts work in the application's function; without one nothing is waited for.
        await (self._hooks.task(asked) if self._namespaces.asks_application(channel) else asked)
        given = Body(message.is_text, message.data)
        body = await self._hooked(identity, channel, given)
        if body is not given:
            check_message_size(len(body.data), self._max_bytes)
            message = Message(body.data, body.is_text, author.publisher, author.serial)
        if recheck is not None:
            recheck()
        return self._append(channel, message, key)

    async def _hooked(self, identity: Identity, channel: Channel, body: Body) -> Body:
        if self._hooks.publish is None:
            return body
        try:
            changed = self._hooks.call_publish(identity, channel, body)
            return changed if isinstance(changed, Body) else await changed
        except HeartwireError:
            raise
        except Exception as error:
            log.exception("on_publish failed for channel %r", channel)
            raise HeartwireError("internal server error: the server's log has the details") from error

    # -- for connections -------------------------------------------------------------------------------------

    def settle(
        self,
        author: Author,
        answer: asyncio.Future[Position] | Coroutine[Any, Any, Accepted],
        done: Callable[[Accepted], object],
    ) -> Awaitable[None] | None:
        """Call ``done`` later, with the position or the finished future of a publish.

        Returns what to wait for before the author's next message, where there is a need to: for the
        application, or for the engine where `MAX_IN_FLIGHT` publishes wait. What the checks raise is raised
        there.
        """
        if not isinstance(answer, asyncio.Future):
            return self._settle(author, answer, done)
        answer.add_done_callback(done)
        waiting = author.in_flight
        if waiting is None:
            waiting = author.in_flight = deque()
        waiting.append(answer)
        while waiting and waiting[0].done():
            waiting.popleft()
        return _done(waiting.popleft()) if len(waiting) > MAX_IN_FLIGHT else None

    async def _settle(
        self, author: Author, asked: Coroutine[Any, Any, Accepted], done: Callable[[Accepted], object]
    ) -> None:
        answer = await asked
        if isinstance(answer, Position):
            done(answer)
            return
        wait = self.settle(author, answer, done)
        if wait is not None:
            await wait


def publisher_of(identity: Identity, client: str) -> Publisher | None:
    """The publisher that a client's publications name: nobody where the client is anonymous."""
    return Publisher(identity.user, client, identity.info) if identity.user else None


async def _done(answer: asyncio.Future[Position]) -> None:
    await asyncio.wait([answer])
