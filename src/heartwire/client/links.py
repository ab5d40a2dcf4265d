"""The transports of the asyncio client: they carry out `Open`, `Send`, `Poll` and `Close` on real sockets.

A closed link reports nothing any more: whatever is still in flight is dropped, half-read or not. Its sockets
are its own and end with it, so that no later link finds a dead one in a pool. Timeouts are the machine's.
Beside it, `redirects` and `sessions` import aiohttp.
"""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, Protocol, TypeVar, Unpack

import aiohttp
from yarl import URL

from heartwire.client.machine import LossFacts
from heartwire.client.outputs import Close, Open, Poll, Send, Session
from heartwire.client.proxies import proxy_for
from heartwire.client.redirects import Moved, moved_base
from heartwire.client.sessions import Sessions
from heartwire.client.states import ABNORMAL
from heartwire.client.wire import closed_by_http, retry_after_header_s, text
from heartwire.errors import ConfigError

__all__ = ["LinkListener", "Links"]

T = TypeVar("T")

_MAX_BYTES: Final = 64 * 1024 * 1024
"""A longer frame, answer or line of an event stream is not of our server."""

_GOODBYE_S: Final = 1.0
"""How long the closing handshake of a WebSocket may take."""

_MOST_MOVES: Final = 5
"""Redirects that one request follows."""

_log: Final = logging.getLogger("heartwire.client")


class LinkListener(Protocol):
    """Takes the reports of links; see the methods of `Machine` of the same names."""

    def received(self, generation: int, data: str) -> None: ...
    def sent(self, generation: int) -> None: ...
    def polled(self, generation: int) -> None: ...
    def lost(self, generation: int, code: int, reason: str, **facts: Unpack[LossFacts]) -> None: ...

    @property
    def token(self) -> str: ...


class Links:
    """The connections of one client.

    Arguments: see `Sessions`.
    """

    def __init__(
        self,
        base: str,
        listener: LinkListener,
        *,
        headers: Mapping[str, str] | None,
        ssl: Any,
        dead_after_s: float,
    ) -> None:
        self.listener = listener
        self.base = URL(base)
        self.proxy = proxy_for(self.base)
        self.session_for_one = Sessions(headers=headers, ssl=ssl, dead_after_s=dead_after_s).session
        self._links: dict[int, _Link] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def open(self, output: Open) -> None:
        """See `Open`."""
        link = self._links[output.generation] = _KIND[output.transport](self, output.generation)
        link.open(output.frame)

    def send(self, output: Send) -> None:
        """See `Send`."""
        self._links[output.generation].send(output.frame)

    def poll(self, output: Poll) -> None:
        """See `Poll`."""
        link = self._links[output.generation]
        assert isinstance(link, _Pull)
        link.poll(output.frame, output.wait_s)

    def session(self, output: Session) -> None:
        """See `Session`."""
        link = self._links[output.generation]
        assert isinstance(link, _Stream)
        link.session = output.session, output.node

    def close(self, output: Close) -> None:
        """See `Close`. Idempotent."""
        link = self._links.pop(output.generation, None)
        if link is not None:
            link.close()
            task = asyncio.get_running_loop().create_task(link.ended())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all links, and wait until their sockets are closed."""
        for generation in list(self._links):
            self.close(Close(generation))
        if self._closing:
            await asyncio.wait(self._closing)


class _Link(ABC):
    """One connection. Its sockets and tasks end with it, and it reports nothing once it is closed."""

    def __init__(self, links: Links, generation: int) -> None:
        self.links = links
        self.generation = generation
        self.base, self.proxy = links.base, links.proxy
        self.is_closed = False
        self.http = links.session_for_one()
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    def open(self, frame: str) -> None: ...

    @abstractmethod
    def send(self, frame: str) -> None: ...

    def close(self) -> None:
        self.is_closed = True
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> None:
        """Wait until its tasks have ended, and its sockets are closed."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.http.close()

    def run(
        self, work: Callable[[], Coroutine[Any, Any, None]], *, was_poll: bool = False
    ) -> "asyncio.Task[None]":
        """Run some I/O in a task. Any exception ends the connection."""
        task = asyncio.get_running_loop().create_task(self._guarded(work, was_poll=was_poll))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]], *, was_poll: bool) -> None:
        try:
            await work()
        except aiohttp.ClientConnectorError as error:
            self.lost(ABNORMAL, f"no connection: {error.os_error or error}", is_reachable=False)
        except aiohttp.WSServerHandshakeError as error:
            self.lost(ABNORMAL, f"HTTP {error.status}", after_s=retry_after_header_s(error.headers))
        except Moved as moved:
            self.lost(
                ABNORMAL, f"moved to {moved}: give that address, if it is the server", was_poll=was_poll
            )
        except (aiohttp.ClientError, ConfigError, OSError, UnicodeDecodeError) as error:
            self.lost(ABNORMAL, f"{type(error).__name__}: {error}", was_poll=was_poll)
        except Exception as error:
            _log.exception("a fault in the client: it closes this connection and opens another")
            self.lost(ABNORMAL, f"{type(error).__name__}: {error}")

    def received(self, data: str) -> None:
        if not self.is_closed:
            self.links.listener.received(self.generation, data)

    def lost(self, code: int, reason: str, **facts: Unpack[LossFacts]) -> None:
        if not self.is_closed:
            self.links.listener.lost(self.generation, code, reason, **facts)

    async def reach(self, path: str, ask: Callable[[URL], Awaitable[T]]) -> T:
        """Ask an address below the base, and where it has moved, there; so do later requests of this link."""
        for _ in range(_MOST_MOVES):
            try:
                return await ask(self.base.joinpath(path))
            except Moved as moved:
                self.base = moved_base(self.base, path, str(moved))
                self.proxy = proxy_for(self.base)
        raise Moved(f"{self.base}, in a circle")

    async def post(self, path: str, body: str, *, wait_s: float = 0, was_poll: bool = False) -> bool:
        """Post a request, and give its answer to `received`. False: refused, and the connection is lost."""
        links = self.links
        headers = {"Content-Type": "application/json"}
        if links.listener.token:
            headers["Authorization"] = f"Bearer {links.listener.token}"
        query = {"wait": f"{wait_s:g}"} if wait_s else {}

        async def ask(url: URL) -> aiohttp.ClientResponse:
            return await self.http.post(url.with_query(query), data=body, headers=headers, proxy=self.proxy)

        async with await self.reach(path, ask) as answer:
            said = await _read(answer)
            if answer.status in (200, 204):
                self.received(said.decode())
                return True
            self.failed(answer, said, was_poll=was_poll)
            return False

    def failed(self, answer: aiohttp.ClientResponse, body: bytes, *, was_poll: bool = False) -> None:
        """Report the refusal of a request."""
        code, reason = closed_by_http(answer.status, body.decode(errors="replace"))
        self.lost(code, reason, was_poll=was_poll, after_s=retry_after_header_s(answer.headers))


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Return a body. Raises ``ClientPayloadError`` where it is too long."""
    parts, size = [], 0
    async for part in answer.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > _MAX_BYTES:
            raise aiohttp.ClientPayloadError(f"an answer of over {_MAX_BYTES} bytes")
    return b"".join(parts)


class _Socket(_Link):
    """A WebSocket."""

    def open(self, frame: str) -> None:
        # Bounded by `PendingPublishes` and `Requests`, and by `silence`, which ends a dead connection.
        self._frames: asyncio.Queue[str] = asyncio.Queue()
        self._frames.put_nowait(frame)
        self.run(self._talk)

    def send(self, frame: str) -> None:
        self._frames.put_nowait(frame)

    async def _talk(self) -> None:
        async def ask(url: URL) -> aiohttp.ClientWebSocketResponse:
            return await self.http.ws_connect(url, max_msg_size=_MAX_BYTES, proxy=self.proxy)

        socket = await self.reach("connection/websocket", ask)
        try:
            self.run(partial(self._write, socket))
            while True:
                message = await socket.receive()
                if message.type is aiohttp.WSMsgType.TEXT:
                    self.received(message.data)
                elif message.type is aiohttp.WSMsgType.BINARY:
                    self.received(message.data.decode())
                else:
                    break
            self._ended(message)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await socket.close()

    def _ended(self, message: aiohttp.WSMessage) -> None:
        if message.type is aiohttp.WSMsgType.CLOSE and message.data:
            self.lost(message.data, message.extra or "")
        elif message.type is aiohttp.WSMsgType.ERROR:
            self.lost(ABNORMAL, f"the connection broke: {message.data}")
        else:
            self.lost(ABNORMAL, "the connection broke")

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await socket.send_str(await self._frames.get())


class _Stream(_Link):
    """An event stream for replies and pushes; commands are posted beside it."""

    session = ("", "")

    def open(self, frame: str) -> None:
        self.run(partial(self._listen, frame))

    def send(self, frame: str) -> None:
        self.run(partial(self._say, frame))

    async def _listen(self, frame: str) -> None:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}

        async def ask(url: URL) -> aiohttp.ClientResponse:
            return await self.http.post(url, data=frame, headers=headers, proxy=self.proxy)

        async with await self.reach("connection/sse", ask) as answer:
            if answer.status != 200 or answer.content_type != "text/event-stream":
                self.failed(answer, await _read(answer))
                return
            half: list[bytes] = []
            async for chunk in answer.content.iter_any():
                *lines, rest = chunk.split(b"\n")
                if lines:
                    lines[0] = b"".join([*half, lines[0]])
                    half.clear()
                    self._events(lines)
                half.append(rest)
                if sum(map(len, half)) > _MAX_BYTES:
                    self.lost(ABNORMAL, f"a line of over {_MAX_BYTES} bytes")
                    return
        self.lost(ABNORMAL, "the stream ended")

    def _events(self, lines: list[bytes]) -> None:
        said = "\n".join(line[6:].decode() for line in lines if line.startswith(b"data: "))
        if said:
            self.received(said)

    async def _say(self, frame: str) -> None:
        session, node = self.session
        body = text({"session": session, "node": node, "data": frame})
        if await self.post("emulation", body) and not self.is_closed:
            self.links.listener.sent(self.generation)


class _Pull(_Link):
    """Requests; the server holds those of a long poll until there is news."""

    _poll: asyncio.Task[None] | None = None
    _polls = 0

    def open(self, frame: str) -> None:
        """Do nothing: each request stands for itself."""

    def send(self, frame: str) -> None:
        self.run(partial(self._send, frame))

    def poll(self, frame: str, wait_s: float) -> None:
        self._polls += 1
        if self._poll is not None:
            self._poll.cancel()
        self._poll = self.run(partial(self._ask, self._polls, frame, wait_s), was_poll=True)

    async def _send(self, frame: str) -> None:
        if await self.post("connection/commands", frame) and not self.is_closed:
            self.links.listener.sent(self.generation)

    async def _ask(self, number: int, frame: str, wait_s: float) -> None:
        is_answered = await self.post("connection/commands", frame, wait_s=wait_s, was_poll=True)
        if is_answered and not self.is_closed and number == self._polls:
            self._poll = None  # not to be cancelled by the next poll, which may use its socket
            self.links.listener.polled(self.generation)


_KIND: Final[dict[str, type[_Link]]] = {
    "websocket": _Socket,
    "sse": _Stream,
    "longpoll": _Pull,
    "poll": _Pull,
}
