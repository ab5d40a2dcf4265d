"""Appends in their simplest form, answered by the front door without request objects.

The plainest form: a body with a content type, maybe of a producer, and nobody to be asked. Whatever is not
that plain, and every refusal that is known at once, takes the way through `app`.
"""

import asyncio
from collections.abc import Awaitable
from functools import lru_cache
from typing import Final

from heartwire.core.caches import ByteCache
from heartwire.core.waiting import begun
from heartwire.dialects.durable.codec import is_text, kind_of, messages_of, token
from heartwire.dialects.durable.requests import MAX_CHARS, Append, parse_append
from heartwire.errors import HeartwireError
from heartwire.hub.node import Node
from heartwire.server.addresses import split_path
from heartwire.server.durable.requests import common_headers, to_stream
from heartwire.server.durable.writes import appended, why
from heartwire.server.plain.fast_path import STORE_S, STORED, refused
from heartwire.streams.record import Claim, Producer
from heartwire.transports.http.front import Facts, FrontProtocol
from heartwire.types import Channel, Message

__all__ = ["FastAppends"]

_REMEMBERED_BYTES: Final = 1024 * 1024

_VARY: Final = "Origin, Accept, Authorization"

_kind_of: Final = lru_cache(64)(kind_of)


class FastAppends:
    """The appends to one node at the root of its server."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._prefix = split_path(node.options.durable_path) if node.options.durable_path else None
        self._channels: ByteCache[Channel] = ByteCache(_REMEMBERED_BYTES)
        self._common = {"vary": _VARY} | common_headers(node)
        self._head = "".join([f"{name}: {value}\r\n" for name, value in self._common.items()])
        self._tasks: set[asyncio.Task[None]] = set()

    def try_append(self, front: FrontProtocol, path: bytes, facts: Facts, body: bytes) -> bool:
        """Answer what is posted to a path, now or later; False leaves it to `app`. Raises `HeartwireError`:
        the same, nothing was appended."""
        node, given = self._node, facts.content_type
        channel = self._channels.get(path) or self._channel(path)
        if channel is None or not body or not given or "stream-closed" in facts.stream:
            return False
        options = node.options
        if options.publish_rate_per_s or node.namespaces.asks(channel, "publish"):
            return False
        if len(body) > options.max_message_bytes or len(given) > MAX_CHARS:
            return False
        kind = _kind_of(given)
        messages = [Message(one, is_text(kind, one)) for one in messages_of(kind, body)]
        if not messages:
            return False
        asked = parse_append(facts.stream) if facts.stream else _PLAIN
        producer = None if asked.producer is None else Producer(*asked.producer)
        claim = Claim(given, producer, asked.sequence)
        rest = begun(self._append(front, channel, messages, claim))
        if rest is not None:
            front.wait(STORED, STORE_S)
            task = asyncio.ensure_future(self._finish(front, channel, rest))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    def _channel(self, path: bytes) -> Channel | None:
        parts, prefix = split_path(path.decode("latin-1")), self._prefix
        if prefix is None or parts[: len(prefix)] != prefix or len(parts) == len(prefix):
            return None
        return self._channels.remember(path, to_stream(self._node, parts[len(prefix) :]))

    async def _append(
        self, front: FrontProtocol, channel: Channel, messages: list[Message], claim: Claim
    ) -> None:
        answer, position = await appended(self._node, channel, messages, claim)
        lines = f"{self._head}stream-next-offset: {token(position)}\r\n"
        if answer.closed:
            lines += "stream-closed: true\r\n"
        if answer.producer is not None:
            _, epoch, seq = answer.producer
            lines += f"producer-epoch: {epoch}\r\nproducer-seq: {seq}\r\n"
        if answer.is_new and claim.producer is not None:
            status, lines = b"200 OK", f"{lines}content-length: 0\r\n"
        else:
            status = b"204 No Content"
        front.answer(b"HTTP/1.1 %b\r\n%b%b\r\n" % (status, front.date, lines.encode()))

    async def _finish(self, front: FrontProtocol, channel: Channel, rest: Awaitable[None]) -> None:
        try:
            await rest
        except HeartwireError as error:
            try:
                more = self._common | await why(self._node, channel, error)
            except HeartwireError as other:
                error, more = other, self._common
            front.answer(refused(front, error, more))


_PLAIN: Final = Append("", False, "", None)
