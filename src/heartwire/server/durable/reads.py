"""``GET`` and ``HEAD`` of a stream: catching up, long polls, and what event streams begin with."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from starlette.responses import Response

from heartwire.core.waiting import settled
from heartwire.dialects.durable.codec import body_of, cursor, entity_tag, kind_of, time_text, token
from heartwire.dialects.durable.requests import Read, parse_read
from heartwire.errors import Refused
from heartwire.hub.identity import Identity
from heartwire.hub.node import Node
from heartwire.server.addresses import Call
from heartwire.server.durable.requests import begin
from heartwire.server.durable.streams import EventStreams
from heartwire.server.plain.polls import HeldPoll
from heartwire.server.requests import known_tags, watch_client
from heartwire.streams.forks import Forks, offset_in
from heartwire.streams.streams import Seen
from heartwire.transports.http.poll import PollFormat, jittered_wait_s
from heartwire.types import NOW, Channel, Position, Publication, Start

__all__ = ["Reads", "headers_of", "start_of"]

_CHUNK_BYTES: Final = 1024 * 1024
_CHUNK_ITEMS: Final = 4096
"""An answer holds at most this much, or one publication; the reader asks again for the rest."""

_CACHED: Final = "max-age=60, stale-while-revalidate=300"
_NEWS: Final = PollFormat(lambda publication: publication)  # type: ignore[arg-type, return-value]


class _Chunk(NamedTuple):
    """A part of a stream.

    Attributes:
        end: the position after it.
        is_head: nothing follows it now.
        is_closed: nothing ever will.
    """

    start: Position
    messages: Sequence[Publication]
    end: Position
    is_head: bool
    is_closed: bool


class _HeldRead(HeldPoll):
    """A long poll that waits."""

    dialect = "durable"


class Reads:
    """The reads of one node."""

    def __init__(self, node: Node, forks: Forks) -> None:
        self._node = node
        self._forks = forks
        self._events = EventStreams(node)

    async def answer(self, call: Call) -> Response | None:
        """Answer a request; ``None`` where it was streamed. Raises `Refused`."""
        node, request = self._node, call.request
        channel, identity = await begin(node, call, "subscribe")
        if request.method == "HEAD":
            seen = await self._forks.look(channel)
            return Response(headers=headers_of(seen) | {"cache-control": "no-store"})
        asked = parse_read(request.query_params.multi_items(), request.headers.get("last-event-id"))
        seen = await self._forks.look(channel)
        node.streams.read_at(channel, seen.record.options.ttl_s, node.clocks.monotonic())
        start = start_of(channel, seen, asked.start)
        if asked.live == "sse":
            return await self._events.serve(call, channel, identity, seen, start, asked)
        if asked.start is NOW and not asked.live:
            return self._page(
                call, channel, seen, _Chunk(start, (), start, True, bool(seen.record.closed)), asked
            )
        chunk = await self._chunk(channel, start)
        if asked.live and not chunk.messages and not chunk.is_closed:
            chunk = await self._hold(call, channel, identity, seen, chunk)
        return self._page(call, channel, seen, chunk, asked)

    async def _chunk(self, channel: Channel, start: Position) -> _Chunk:
        node = self._node
        await node.pages.turn()
        answer = node.history.read(channel, start, limit=_CHUNK_ITEMS, max_bytes=_CHUNK_BYTES)
        result = await settled(answer)
        if not result.recovered:
            raise Refused("stream_gone", f"stream {channel!r} was deleted meanwhile")
        found, is_closed = result.publications, result.end is not None
        node.pages.spend(sum([len(one.data) for one in found]))
        end = found[-1].position if found else start
        return _Chunk(start, found, end, is_closed or end == result.head, is_closed)

    async def _hold(
        self, call: Call, channel: Channel, identity: Identity, seen: Seen, chunk: _Chunk
    ) -> _Chunk:
        """Wait for what follows a chunk that has nothing."""
        node, ttl_s = self._node, seen.record.options.ttl_s
        wait_s = jittered_wait_s(node.options.durable_poll_s, node.clocks.chance)
        if ttl_s:  # a waiting reader keeps the stream: it comes back, and that renews it
            wait_s = min(wait_s, ttl_s / 2)
        poll = _HeldRead(node, call, identity)
        node.connections.add(poll)
        try:
            node.connections.index(poll)
            with watch_client(call.request, poll.answered.set), contextlib.suppress(TimeoutError):
                node.presence.follow(poll, channel, _NEWS, chunk.start)
                async with asyncio.timeout(wait_s):
                    await poll.answered.wait()
        finally:
            node.connections.remove(poll)
            node.presence.unfollow_all(poll)
        found: list[Publication] = []
        is_closed = False
        for _, publications, _, recovered, end in poll.news:
            if not recovered:
                await self._forks.look(channel)
                raise Refused("stream_gone", f"stream {channel!r} was deleted meanwhile")
            found += publications  # type: ignore[arg-type]
            is_closed |= end is not None
        if poll.refusal is not None and not found and not is_closed:
            raise poll.refusal
        return _Chunk(chunk.start, found, found[-1].position if found else chunk.start, True, is_closed)

    def _page(self, call: Call, channel: Channel, seen: Seen, chunk: _Chunk, asked: Read) -> Response:
        node = self._node
        headers = {"stream-next-offset": token(chunk.end)}
        if chunk.is_head:
            headers["stream-up-to-date"] = "true"
        if chunk.is_closed:
            headers["stream-closed"] = "true"
        if asked.live:
            now_s = node.clocks.wall()
            headers["stream-cursor"] = str(cursor(now_s, asked.cursor, node.clocks.chance.randint))
            if not chunk.messages:
                return Response(status_code=204, headers=headers)
        content_type = seen.record.options.content_type
        headers["content-type"] = content_type
        if asked.start is NOW and not asked.live:
            return Response(body_of(kind_of(content_type), ()), headers=headers)
        tag = entity_tag(chunk.start, chunk.end, is_closed=chunk.is_closed)
        is_private = node.authenticator is not None or node.namespaces.asks(channel, "subscribe")
        headers |= {
            "etag": f'"{tag}"',
            "cache-control": f"{'private' if is_private else 'public'}, {_CACHED}",
        }
        known = known_tags(call.request)
        if tag in known or "*" in known:
            del headers["content-type"]
            return Response(status_code=304, headers=headers)
        return Response(body_of(kind_of(content_type), chunk.messages), headers=headers)


def headers_of(seen: Seen) -> dict[str, str]:
    """What an answer says of a stream."""
    options = seen.record.options
    headers = {"content-type": options.content_type, "stream-next-offset": token(seen.tail)}
    if options.ttl_s:
        headers["stream-ttl"] = f"{options.ttl_s:.0f}"
    if options.ends_ms:
        headers["stream-expires-at"] = time_text(options.ends_ms)
    if seen.record.closed:
        headers["stream-closed"] = "true"
    return headers


def start_of(channel: Channel, seen: Seen, start: Start) -> Position:
    """A reader's start as a position of the stream. Raises `Refused` (``stream_gone``, ``bad_position``)."""
    if start is NOW:
        return seen.tail
    offset = offset_in(channel, seen, start) if isinstance(start, Position) else 0
    return Position(seen.tail.epoch, offset)
