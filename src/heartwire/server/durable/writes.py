"""``PUT``, ``POST`` and ``DELETE`` of a stream."""

import contextlib
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from heartwire.channels import check_idempotency_key
from heartwire.dialects.durable.codec import Kind, is_text, kind_of, messages_of, token
from heartwire.dialects.durable.requests import parse_append, parse_create
from heartwire.errors import HeartwireError, Refused
from heartwire.hub.node import Node
from heartwire.messages import Body
from heartwire.server.addresses import Call, split_path
from heartwire.server.durable.reads import headers_of
from heartwire.server.durable.requests import begin, to_stream
from heartwire.server.plain.publishes import Poster
from heartwire.server.requests import read_body
from heartwire.streams import record as records
from heartwire.streams.forks import Creation, Forks
from heartwire.streams.record import Claim, Producer, ProducerRefused, Step, StreamClosed, StreamRecord
from heartwire.types import Channel, Message, Position

__all__ = ["Writes", "appended", "why"]


class Writes:
    """The changes of streams by clients of one node."""

    def __init__(self, node: Node, forks: Forks) -> None:
        self._node = node
        self._forks = forks

    async def create(self, call: Call) -> Response:
        """``PUT``: create a stream, or find it. Raises `Refused`."""
        node, request = self._node, call.request
        channel, identity = await begin(node, call, "publish")
        asked = parse_create(request.headers)
        body = await read_body(node, request)
        source = None
        if asked.fork is not None:
            source = self._source(request, asked.fork.path)
            await node.namespaces.authorize(identity, "subscribe", source)
        content_type = asked.content_type
        if source is not None and not content_type and body:  # it is what its source is
            content_type = (await self._forks.look(source)).record.options.content_type
        author = Poster(node, call, identity)
        messages, problem = await self._messages(author, channel, kind_of(content_type), body)
        creation = Creation(
            content_type=content_type,
            ttl_s=asked.ttl_s,
            ends_ms=asked.ends_ms,
            is_closed=asked.is_closed,
            messages=messages,
            problem=problem,
            source=source,
            at=asked.fork.at if asked.fork is not None else None,
            more=asked.fork.more if asked.fork is not None else 0,
        )
        is_new, seen = await self._forks.create(channel, creation)
        headers = headers_of(seen)
        if is_new:
            headers["location"] = str(request.url.replace(query=""))
        return Response(status_code=201 if is_new else 200, headers=headers)

    async def append(self, call: Call) -> Response:
        """``POST``: append, close, or both. Raises `Refused`."""
        node, request = self._node, call.request
        channel, identity = await begin(node, call, "publish")
        asked = parse_append(request.headers)
        body = await read_body(node, request)
        if not body and not asked.closes:
            raise Refused("bad_request", "an empty body: there is nothing to append")
        author = Poster(node, call, identity)
        messages, problem = await self._messages(author, channel, kind_of(asked.content_type), body)
        if body and not asked.content_type:
            problem = Refused("bad_request", "Content-Type is missing: it is that of the stream")
        elif body and not messages and problem is None:
            problem = Refused("bad_request", "an empty array: there is nothing to append")
        producer = None if asked.producer is None else Producer(*asked.producer)
        key = request.headers.get("idempotency-key")
        claim = Claim(
            content_type=asked.content_type or None,
            producer=producer,
            sequence=asked.sequence,
            key="" if key is None else check_idempotency_key(key),
            key_ttl_s=node.options.idempotency_window_s,
            close="done" if asked.closes else "",
        )
        has_run = asked.closes and await self._has_run(channel)
        try:
            answer, position = await appended(node, channel, messages, claim, problem)
        except (StreamClosed, ProducerRefused) as error:
            call.cors.update(await why(node, channel, error))
            raise
        if has_run:
            node.runs.tell(channel)
        headers = {"stream-next-offset": token(position)}
        if answer.closed:
            headers["stream-closed"] = "true"
        if answer.producer is not None:
            headers |= {
                "producer-epoch": str(answer.producer.epoch),
                "producer-seq": str(answer.producer.seq),
            }
        has_data = answer.is_new and producer is not None and bool(messages)
        return Response(status_code=200 if has_data else 204, headers=headers)

    async def delete(self, call: Call) -> Response:
        """``DELETE``: delete a stream. Raises `Refused`."""
        node = self._node
        channel, identity = await begin(node, call, "publish")
        await node.namespaces.authorize(identity, "publish", channel)
        has_run = await self._has_run(channel)
        await self._forks.delete(channel)
        if has_run:
            node.runs.tell(channel)
        return Response(status_code=204)

    async def _has_run(self, channel: Channel) -> bool:
        with contextlib.suppress(Refused):
            return bool((await self._node.streams.look(channel)).record.owner)
        return False

    async def _messages(
        self, author: Poster, channel: Channel, kind: Kind, body: bytes
    ) -> tuple[list[Message], Refused | None]:
        """The messages of a body, as the application lets them pass; and what is wrong with them, which is
        said once it is known that nothing else is."""
        node = self._node
        try:
            bodies = [Body(is_text(kind, one), one) for one in messages_of(kind, body)]
        except Refused as error:
            await node.publishing.admit(author, channel, ())
            return [Message(body, False)], error
        admitted = await node.publishing.admit(author, channel, bodies)
        return [Message(one.data, one.is_text, author.publisher) for one in admitted], None

    def _source(self, request: Request, path: str) -> Channel:
        """The stream of a path of this server. Raises `Refused` (``stream_not_found``)."""
        segments = split_path(path.partition("?")[0])
        for root in (request.scope.get("root_path", ""), ""):
            prefix = split_path(root.rstrip("/") + self._node.options.durable_path)
            if segments[: len(prefix)] == prefix and len(segments) > len(prefix):
                return to_stream(self._node, segments[len(prefix) :])
        raise Refused("stream_not_found", f"Stream-Forked-From {path[:200]!r} is no stream of this server")


async def appended(
    node: Node, channel: Channel, messages: Sequence[Message], claim: Claim, problem: Refused | None = None
) -> tuple[records.Appended, Position]:
    """Append messages, and renew the stream's lifetime. Returns the position after the last one.

    Raises `Refused`; ``problem`` where nothing else is wrong with them.
    """
    max_bytes = node.namespaces.of(channel).max_stream_bytes

    def decide(record: StreamRecord | None, now_ms: int) -> Step:
        step = records.append(channel, record, messages, claim, now_ms=now_ms, max_bytes=max_bytes)
        if problem is not None and step.answer.is_new:
            raise problem
        return step

    size = sum([len(one.data) for one in messages])
    answer, found = await node.streams.change(channel, decide, size=size)
    if not answer.is_new:  # nothing was written that would renew it
        node.streams.read_at(channel, found.ttl_s, node.clocks.monotonic())
    return answer, Position(found.head.epoch, answer.tail)


async def why(node: Node, channel: Channel, error: HeartwireError) -> dict[str, str]:
    """The protocol's headers of a refusal."""
    if isinstance(error, StreamClosed):
        seen = await node.streams.look(channel)
        return {"stream-closed": "true", "stream-next-offset": token(seen.tail)}
    if not isinstance(error, ProducerRefused):
        return {}
    if error.code.name == "stale_producer":
        return {"producer-epoch": str(error.epoch)}
    return {"producer-expected-seq": str(error.expected), "producer-received-seq": str(error.received)}
