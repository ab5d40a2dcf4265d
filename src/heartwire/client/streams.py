"""`Stream`: a durable stream as applications see it, on any server of the Durable Streams protocol.

`streams_reading` and `streams_producing` decide, `streams_http` sends.
"""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import aiohttp
from yarl import URL

from heartwire.client.options import Options
from heartwire.client.sessions import Sessions
from heartwire.client.streams_http import StreamRequests, StreamTokens
from heartwire.client.streams_producer import StreamProducer
from heartwire.client.streams_producing import Producing
from heartwire.client.streams_reading import Live, Reading
from heartwire.client.streams_wire import Answer, Lost, cut_events, is_true, refusal, stream_url

__all__ = ["Stream", "StreamHead", "Streams"]


class StreamHead(NamedTuple):
    """What a server says of a stream: ``offset`` is its tail, and ``ttl_s`` seconds after its last use it
    ends; ``None``: not by its age."""

    content_type: str
    offset: str
    closed: bool
    ttl_s: int | None


class Streams:
    """Makes the streams of one client. Arguments: `heartwire.connect`."""

    def __init__(
        self, base: str, options: Options, *, token: str, get_token: Any, headers: Any, ssl: Any
    ) -> None:
        self._base, self._options = base, options
        sessions = partial(Sessions, ssl=ssl, dead_after_s=options.ping_interval_s + options.pong_timeout_s)
        self._own = StreamTokens(token, get_token), sessions(headers=headers)
        self._foreign = StreamTokens(), sessions(headers=None)  # whoever that is, these are not for them

    def stream(self, name: str, path: str) -> "Stream":
        """See `Client.stream`."""
        url = stream_url(self._base, path, name)
        is_own = URL(url).origin() == URL(self._base).origin()
        return Stream(StreamRequests(url, self._options, *(self._own if is_own else self._foreign)))


class Stream:
    """One durable stream, for one reader at a time and any number of producers.

    Attributes:
        offset: where to go on. It moves as the last value of an answer is handed out, so whoever keeps it
            may get the other values of that answer again, and misses none.
        closed: whether the last answer said that nothing will be appended any more.
        content_type: as the last answer said; "" before there was one.
    """

    def __init__(self, requests: StreamRequests) -> None:
        self.offset = "-1"
        self.closed = False
        self.content_type = ""
        self._requests = requests
        self._waiting: deque[Any] = deque()  # read, and not handed out yet; the last one leads to `_after`
        self._after = ""

    @property
    def url(self) -> str:
        """The address."""
        return str(self._requests.url)

    # -- reading ---------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Any]:
        return self.read()

    async def read(self, offset: str | None = None, *, live: Live = True) -> AsyncGenerator[Any, None]:
        """Yield what was appended and, where ``live``, what will be, until the stream is closed.

        JSON streams yield their messages; text streams ``str`` and others ``bytes``, in pieces of any size.

        Args:
            offset: "-1": from the start; "now"; or one that was `offset`. ``None``: on from where it is.
            live: ``False`` ends at the tail. ``True`` takes an event stream for JSON and text, else long
                polls; ``"long-poll"`` takes those for all.
        Raises:
            Refused: ``stream_not_found``, ``stream_gone`` (deleted, or not kept from there), ``forbidden``.
            Unauthorized: the token was refused.
        Promises: each once, in order, across broken connections; no character is cut in two.
        """
        if offset is not None:
            self.offset = offset
            self._waiting.clear()
        requests, retry, now = self._requests, self._requests.retry(), asyncio.get_running_loop().time
        begin = self._after if self._waiting else self.offset
        reading = Reading(begin, live, retry, stable_after_s=requests.options.stable_after_s)
        for value in self._handed_out():
            yield value
        async with requests.session() as session:
            while not reading.is_over:
                try:
                    async with contextlib.aclosing(self._answers(session, reading)) as answers:
                        async for values in answers:
                            self._take(reading, values)
                            for value in self._handed_out():
                                yield value
                except Lost as lost:
                    delay_s = reading.lost(lost, now())
                    requests.log(lost, retry)
                    await asyncio.sleep(delay_s)

    def _take(self, reading: Reading, values: Sequence[Any]) -> None:
        self.closed, self.content_type = reading.is_closed, reading.content_type
        self._waiting.extend(values)
        self._after = reading.offset
        if not values:
            self.offset = reading.offset

    def _handed_out(self) -> Iterator[Any]:
        while self._waiting:
            if len(self._waiting) == 1:
                self.offset = self._after
            yield self._waiting.popleft()

    async def _answers(
        self, session: aiohttp.ClientSession, reading: Reading
    ) -> AsyncGenerator[Sequence[Any], None]:
        """Make one request. Yield the values that come."""
        requests, now = self._requests, asyncio.get_running_loop().time
        options = requests.options
        silence_s = options.ping_interval_s + options.pong_timeout_s
        is_sse, query = reading.is_sse, reading.query(now())
        if not is_sse:
            within_s = silence_s if reading.is_live else options.request_timeout_s
            yield reading.answered(await requests.ask(session, "GET", within_s, query=query), now())
            return
        first_s, rest = options.open_timeout_s * 2, b""  # one of them for the connection
        async with requests.send(session, "GET", first_s, query=query) as response:
            if response.status != 200 or response.content_type != "text/event-stream":
                reading.answered(Answer(response.status, response.headers), now())
                raise Lost("the server has no event stream of it")
            async for piece in requests.pieces(response, lambda: silence_s if reading.is_heard else first_s):
                events, rest = cut_events(rest + piece)
                for name, data in events:
                    yield reading.event(name, data, now())
        if not reading.is_over:
            raise Lost("the event stream ended")

    # -- the stream itself -----------------------------------------------------------------------------------

    async def create(
        self, content_type: str = "application/json", *, ttl_s: int | None = None, closed: bool = False
    ) -> bool:
        """Create the stream. Return whether it is new.

        Args:
            ttl_s: whole seconds after its last use that it ends.
            closed: nothing can be appended.
        Raises:
            Refused: ``stream_conflict``: it is there already, and is another; ``forbidden``.
            GivenUp: not answered within ``max_pending_age_s``, as for all requests here.
        """
        headers = {"Content-Type": content_type}
        if ttl_s is not None:
            headers["Stream-TTL"] = str(int(ttl_s))
        if closed:
            headers["Stream-Closed"] = "true"
        answer = await self._ask("PUT", headers)
        self.content_type, self.closed = answer.headers.get("Content-Type", content_type), closed
        return answer.status == 201

    async def head(self) -> StreamHead:
        """Return what the server says of it. Raises as `read`, and `GivenUp`."""
        headers = (await self._ask("HEAD", {})).headers
        self.content_type, self.closed = headers.get("Content-Type", ""), is_true(headers, "Stream-Closed")
        ttl = headers.get("Stream-TTL", "")
        ttl_s = int(ttl) if ttl.isascii() and ttl.isdigit() else None
        return StreamHead(self.content_type, headers.get("Stream-Next-Offset", ""), self.closed, ttl_s)

    async def close(self, data: Any = None) -> None:
        """Close the stream for good, after one last append where there is ``data``. Idempotent without.

        Raises as `StreamProducer.append`. Promises: what is appended is appended once.
        """
        if data is not None:
            async with self.producer() as producer:
                await producer.close(data)
        else:
            await self._ask("POST", {"Stream-Closed": "true"})
        self.closed = True

    async def delete(self) -> None:
        """Delete the stream. Raises as `read`, and `GivenUp`."""
        await self._ask("DELETE", {}, is_done=404)

    def producer(self, id: str | None = None, *, epoch: int = 0, auto_claim: bool = False) -> StreamProducer:
        """Return a producer of this stream, for ``async with``.

        Args:
            id: its name, by which the server knows what it has appended already; ``None``: a new one.
            epoch: which life of the producer this is. One that starts again takes a later one, which shuts
                out those before it.
            auto_claim: take the epoch after the one that the server has, once, where that is needed.
        """
        options, name = self._requests.options, id or secrets.token_urlsafe(12)
        producing = Producing(name, epoch, options, is_new=id is None, can_claim=auto_claim)
        return StreamProducer(self._requests, producing, self._type)

    async def _type(self) -> str:
        return self.content_type or (await self.head()).content_type

    async def _ask(self, method: str, headers: Mapping[str, str], is_done: int = 0) -> Answer:
        """Ask until it is answered. ``is_done``: the status where an earlier try was carried out."""
        requests, retry = self._requests, self._requests.retry()

        async def ask() -> Answer:
            answer = await requests.ask(session, method, headers=headers)
            if answer.status >= 300 and not (retry.backoff.failures and answer.status == is_done):
                raise refusal(answer)
            return answer

        async with requests.session() as session:
            return await requests.settle(ask, retry)
