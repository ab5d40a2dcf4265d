"""`StreamProducer`: appends to a durable stream, each exactly once. `streams_producing` decides."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Self

from heartwire.client.streams_http import StreamRequests
from heartwire.client.streams_producing import Producing
from heartwire.client.streams_wire import body_of, kind_of
from heartwire.client.subscription import mark_retrieved
from heartwire.errors import GivenUp

__all__ = ["StreamProducer"]


class StreamProducer:
    """Appends to one stream, in the order of the calls, for ``async with``; see `Stream.producer`.

    One request is under way at a time, with all that waits for it. Leaving waits until all is acknowledged,
    and raises the error that no call has raised; after an exception what waits is dropped. The stream stays
    open, unless `close` is called.

    Promises: each append is applied once, however often it is sent, and whatever breaks. Once one has failed,
    so do all after it.
    """

    def __init__(
        self, requests: StreamRequests, producing: Producing, content_type: Callable[[], Awaitable[str]]
    ) -> None:
        self._requests = requests
        self._producing = producing
        self._find_type = content_type
        self._type = ""
        self._answers: deque[asyncio.Future[str]] = deque()
        self._error: Exception | None = RuntimeError("use `async with stream.producer() as producer`")
        self._is_told = False  # of the error, which leaving raises else
        self._turn = asyncio.Lock()  # those who wait for room keep their order
        self._work, self._change = asyncio.Event(), asyncio.Event()

    @property
    def id(self) -> str:
        """Its name on the server."""
        return self._producing.id

    @property
    def epoch(self) -> int:
        """Which life of it this is."""
        return self._producing.epoch

    async def __aenter__(self) -> Self:
        self._type = await self._find_type()
        self._producing.is_json = kind_of(self._type) == "json"
        self._session, self._error, self._is_told = self._requests.session(), None, False
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and not self._is_told:
                await self.flush()
        finally:
            self._task.cancel()
            self._fail(GivenUp("the producer was left", is_unknown=bool(self._answers)))
            await asyncio.wait([self._task])
            await self._session.close()

    async def append(self, data: Any) -> str:
        """Append, and return the offset after it once the server has it. Of a JSON stream any JSON, else
        ``str`` (as UTF-8) or ``bytes``.

        Raises:
            Refused: ``stale_producer``: a later epoch of this producer has taken over, or this one was used
                before; ``stream_closed``, ``stream_full``, ``stream_not_found``, ``stream_gone``.
            GivenUp: not acknowledged within ``max_pending_age_s``.
            LimitExceeded: over ``max_message_bytes``.
            TypeError, ValueError: it cannot be appended.
        """
        answer = await self._add(data)
        try:
            return await answer
        except Exception:
            self._is_told = True
            raise

    async def write(self, data: Any) -> None:
        """Append, and return as soon as there is room for it to wait: `flush` and the end wait for the rest.

        Raises as `append`, also for an earlier one.
        """
        await self._add(data)

    async def flush(self) -> str:
        """Wait until all is acknowledged. Return the offset after it. Raises as `append`."""
        while not self._producing.is_idle:
            await self._changed()
        self._check()
        return self._producing.offset

    async def close(self, data: Any = None) -> str:
        """Close the stream for good, in one step with the last append. Raises as `append`."""
        if data is not None:
            await self._add(data)
        self._check()
        self._producing.close()
        self._work.set()
        return await self.flush()

    async def _add(self, data: Any) -> "asyncio.Future[str]":
        body = body_of(data, self._type, self._requests.options.max_message_bytes)
        async with self._turn:
            self._check()
            while not self._producing.add(body):
                await self._changed()
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(mark_retrieved)
        self._answers.append(answer)
        self._work.set()
        return answer

    def _check(self) -> None:
        if self._error is not None:
            self._is_told = True
            raise self._error.with_traceback(None)

    async def _changed(self) -> None:
        self._check()
        self._change.clear()
        await self._change.wait()

    async def _run(self) -> None:
        retry = self._requests.retry()
        try:
            while True:
                while self._producing.is_idle:
                    self._work.clear()
                    await self._work.wait()
                for _ in range(await self._requests.settle(self._send, retry)):
                    answer = self._answers.popleft()
                    if not answer.done():
                        answer.set_result(self._producing.offset)
                self._change.set()
        except Exception as error:
            self._fail(error)

    async def _send(self) -> int:
        count = None
        while count is None:
            headers, body = self._producing.take()
            self._change.set()  # there is room again
            headers["Content-Type"] = self._type
            answer = await self._requests.ask(self._session, "POST", headers=headers, body=body)
            count = self._producing.answered(answer)
        return count

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        while self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_exception(self._error)
        self._change.set()
