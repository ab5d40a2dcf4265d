"""The part of `heartwire.Hub` that is about durable streams."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, TypeVar

from starlette.responses import Response

from heartwire.channels import to_channel
from heartwire.errors import EngineError, HeartwireError, Refused
from heartwire.hub.producers import Producer
from heartwire.hub.runs import Successor
from heartwire.hub.writer import StreamWriter
from heartwire.streams.formats import Format, format_of
from heartwire.types import Channel, Position

if TYPE_CHECKING:
    from heartwire.hub.node import Node

__all__ = ["HubStreams"]

SuccessorT = TypeVar("SuccessorT", bound=Successor)

_ENDED = "end"
"""The last event id of the format `sse`."""


class HubStreams:
    """See the module. `docs/streams.md` has more. A name is a channel's, whose namespace is ``durable``.

    They belong to the hub's event loop, and raise `NotStarted` in another one.
    """

    node: "Node"

    @contextlib.asynccontextmanager
    async def stream(
        self,
        name: str,
        *,
        format: str | Format = "text",
        content_type: str = "",
        ttl_s: float | None = None,
        user: str = "",
    ) -> AsyncIterator[StreamWriter]:
        """Write a new stream: ``async with hub.stream("answer:42") as out: await out.write(word)``.

        Args:
            format: makes what is kept of the values; see `heartwire.streams.formats`.
            content_type: of the stream; "": the format's.
            ttl_s: seconds after its last use that the stream ends; 0: it does not, ``None``: the namespace's.
            user: whose it is, for ``max_streams_per_user``; "": nobody's.
        Raises:
            Refused: ``stream_conflict`` (the name is taken), ``not_available`` (the channel is no stream),
                ``too_many_streams``, ``shutdown``.
            EngineUnavailable: the stream may be there; it ends as interrupted then.
            StreamCancelled: in the block and from it: the stream was closed by somebody else. What the block
                waits for is cancelled then.

        Promises: when the block has ended, all that was written is kept, and the stream is closed: "done";
        after an exception "error", which names a `HeartwireError` to readers and is logged; "aborted" where
        its task was cancelled. A block of a process that died ends as "interrupted".
        """
        await self.node.ensure_started()
        channel = to_channel(name)
        async with await self.node.runs.open(
            channel, format, content_type=content_type, ttl_s=ttl_s, user=user
        ) as writer:
            yield writer

    async def start_stream(
        self,
        name: str,
        producer: Producer,
        *,
        format: str | Format = "text",
        ttl_s: float | None = None,
        user: str = "",
    ) -> bool:
        """Have a stream written from what a producer yields, unless it is there. Returns whether it was not.

        Args:
            producer: an asynchronous or synchronous generator or iterable, or a function without arguments
                that returns one. What is synchronous runs in a thread.
            format, ttl_s, user: see `stream`.
        Raises: what `stream` does when it begins, but for ``stream_conflict``.

        Promises: a name is produced once, however often and on however many nodes this is called. The run
        outlives the request that began it, and the call itself, if that is cancelled. Its end is that of
        `stream`. A producer that is not needed is not begun.
        """
        await self.node.ensure_started()
        return await self.node.runs.start(to_channel(name), producer, format, ttl_s=ttl_s, user=user)

    async def stream_response(
        self,
        name: str,
        producer: Producer,
        *,
        format: str | Format = "text",
        ttl_s: float | None = None,
        user: str = "",
    ) -> Response:
        """`start_stream`, and the response that follows the stream from its first value to its end.

        Where it cannot be started the response is that of the error, as the hub's own addresses answer.
        Raises `ConfigError` for an unknown format.
        """
        try:
            await self.start_stream(name, producer, format=format, ttl_s=ttl_s, user=user)
        except (Refused, EngineError) as error:
            return _refusal(error)
        return await self.resume_response(name, format=format)

    async def resume_response(
        self, name: str, *, format: str | Format = "text", after: Position | str | None = None
    ) -> Response:
        """The response that follows a stream to its end, from its first value, at any time, on any node.

        Args:
            after: a position: from there; the ``Last-Event-ID`` of the format `sse` is one.
        Returns:
            204 where there is no such stream, or nothing more in it; of an error, see `stream_response`.

        Promises: a response that is complete has the end of the stream, whose reason the format tells. One
        that cannot be continued breaks off, so that its client notices and comes back.
        """
        from heartwire.server.replies import StreamReply

        try:
            found = await self._find(name, after)
        except (Refused, EngineError) as error:
            is_gone = error.code.name in ("stream_not_found", "stream_gone")
            return Response(status_code=204) if is_gone else _refusal(error)
        return (
            Response(status_code=204) if found is None else StreamReply(self.node, *found, format_of(format))
        )

    async def stream_pieces(
        self, name: str, *, format: str | Format = "text", after: Position | str | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The body of `resume_response`, piece by piece, for frameworks with responses of their own, such as
        Django's ``StreamingHttpResponse``.

        Raises `Refused` (``stream_not_found``, ``stream_gone``), and `HeartwireError` where it breaks off.
        """
        from heartwire.server.replies import stream_pieces

        found = await self._find(name, after)
        if found is None:
            return
        async with contextlib.aclosing(stream_pieces(self.node, *found, format_of(format))) as pieces:
            async for piece in pieces:
                yield piece

    async def cancel_stream(self, name: str) -> bool:
        """Stop a stream, wherever it is produced: it is closed as "aborted". Returns whether it was open.

        Promises: nothing is kept after the answer. The run sees `StreamCancelled` at once, or, if its node
        cannot be reached, when it writes next or renews its lease.
        """
        channel = to_channel(name)
        return await self.node.run(lambda: self.node.runs.cancel(channel))

    def producer(self, namespace: str) -> Callable[[SuccessorT], SuccessorT]:
        """Decorator: the function that goes on with streams of a namespace whose node stops before their runs
        have finished.

        It is called on another node, with the stream's name and a list of all that is kept of it (``str`` or
        ``bytes``, one a message), and returns what `start_stream` takes. Without one, or where nobody else is
        there, such streams end as "interrupted". The format of the stream is one that is registered.
        """

        def decorate(function: SuccessorT) -> SuccessorT:
            self.node.runs.successors[namespace] = function
            return function

        return decorate

    async def _find(self, name: str, after: Position | str | None) -> tuple[Channel, Position] | None:
        """Where to follow a stream from; ``None``: its end has been read."""
        await self.node.ensure_started()
        channel = to_channel(name)
        start = None if after == _ENDED else await self.node.runs.find_start(channel, after)
        return None if start is None else (channel, start)


def _refusal(error: HeartwireError) -> Response:
    from heartwire.server.responses import refusal

    return refusal(error)
