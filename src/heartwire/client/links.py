"""The transports of the asyncio client: what a machine's `Open`, `Send`, `Poll` and `Close` do to real sockets.

A link says nothing any more once it was closed: whatever is still on its way is dropped, half-read or not. Time limits are the
machine's. This is the one module that knows aiohttp.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, Protocol

import aiohttp
from yarl import URL

from heartwire.client.outputs import Close, Open, Poll, Send, Session
from heartwire.client.states import ABNORMAL
from heartwire.client.wire import closed_by_http, text

__all__ = ["Ears", "Links"]

_MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""A line of an event stream that is longer is not of our server."""

_MAX_RETRY_AFTER_S: Final = 3600


class Ears(Protocol):
    """Who is told what came of it; see the methods of `Machine` of the same names."""

    def received(self, generation: int, data: str) -> None: ...
    def sent(self, generation: int) -> None: ...
    def polled(self, generation: int) -> None: ...
    def lost(
        self, generation: int, code: int, reason: str, *, is_reachable: bool = True, was_poll: bool = False, after_s: float = 0
    ) -> None: ...

    @property
    def token(self) -> str: ...


class Links:
    """The connections of one client.

    Args:
        base: the server's address, ``http`` or ``https``.
        ears: who is told.
        headers: sent with every request, such as a proxy may want.
        ssl: an ``ssl.SSLContext``, or ``True`` for the usual checks.
    """

    def __init__(self, base: str, ears: Ears, *, headers: Mapping[str, str] | None = None, ssl: Any = True) -> None:
        self.ears = ears
        self.base = URL(base)
        self.http = aiohttp.ClientSession(
            headers=headers,
            trust_env=True,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            connector=aiohttp.TCPConnector(ssl=ssl),
        )
        self._links: dict[int, _Link] = {}

    def open(self, output: Open) -> None:
        """See `Open`."""
        link = self._links[output.generation] = _KINDS[output.transport](self, output.generation)
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

    async def aclose(self) -> None:
        """Close all there is, and wait until it is."""
        links, self._links = self._links, {}
        for link in links.values():
            link.close()
        await self.http.close()


class _Link(ABC):
    """One connection: tasks that end with it, and a voice that is lost with it."""

    def __init__(self, links: Links, generation: int) -> None:
        self.links = links
        self.generation = generation
        self.is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    def open(self, frame: str) -> None: ...

    @abstractmethod
    def send(self, frame: str) -> None: ...

    def close(self) -> None:
        self.is_closed = True
        for task in self._tasks:
            task.cancel()

    def run(self, work: Callable[[], Coroutine[Any, Any, None]], *, was_poll: bool = False) -> "asyncio.Task[None]":
        """Do some I/O. Whatever goes wrong with it ends the connection."""
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
            self.lost(ABNORMAL, f"HTTP {error.status}")
        except (aiohttp.ClientError, OSError, UnicodeDecodeError) as error:
            self.lost(ABNORMAL, f"{type(error).__name__}: {error}", was_poll=was_poll)

    def received(self, data: str) -> None:
        if not self.is_closed:
            self.links.ears.received(self.generation, data)

    def lost(self, code: int, reason: str, *, is_reachable: bool = True, was_poll: bool = False, after_s: float = 0) -> None:
        if not self.is_closed:
            self.links.ears.lost(self.generation, code, reason, is_reachable=is_reachable, was_poll=was_poll, after_s=after_s)

    async def post(self, path: str, body: str, *, wait_s: float = 0, was_poll: bool = False) -> bool:
        """Ask, and give the answer to `received`. False where it was none of the protocol; then the connection is lost."""
        links = self.links
        headers = {"Content-Type": "application/json"}
        if links.ears.token:
            headers["Authorization"] = f"Bearer {links.ears.token}"
        query = {"wait": f"{wait_s:g}"} if wait_s else {}
        async with links.http.post(links.base.joinpath(path).with_query(query), data=body, headers=headers) as answer:
            said = await answer.text()
            if answer.status in (200, 204):
                self.received(said)
                return True
            self._failed(answer, said, was_poll=was_poll)
            return False

    def _failed(self, answer: aiohttp.ClientResponse, body: str, *, was_poll: bool = False) -> None:
        after = answer.headers.get("Retry-After", "")
        after_s = min(int(after), _MAX_RETRY_AFTER_S) if after.isascii() and after.isdigit() else 0
        code, reason = closed_by_http(answer.status, body)
        self.lost(code, reason, was_poll=was_poll, after_s=after_s)


class _Socket(_Link):
    """A WebSocket."""

    def __init__(self, links: Links, generation: int) -> None:
        super().__init__(links, generation)
        self._frames: asyncio.Queue[str] = asyncio.Queue()  # bounded by the outbox, and by silence ending the connection

    def open(self, frame: str) -> None:
        self._frames.put_nowait(frame)
        self.run(self._talk)

    def send(self, frame: str) -> None:
        self._frames.put_nowait(frame)

    async def _talk(self) -> None:
        links = self.links
        url = links.base.joinpath("connection/websocket")
        async with links.http.ws_connect(url, autoping=True, max_msg_size=0) as socket:
            self.run(partial(self._write, socket))
            while True:
                message = await socket.receive()
                if message.type is aiohttp.WSMsgType.TEXT:
                    self.received(message.data)
                elif message.type is aiohttp.WSMsgType.BINARY:
                    self.received(message.data.decode())
                else:
                    break
            has_said_why = message.type is aiohttp.WSMsgType.CLOSE and bool(message.data)
            self.lost(message.data if has_said_why else ABNORMAL, (message.extra or "") if has_said_why else "the connection broke")

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await socket.send_str(await self._frames.get())


class _Stream(_Link):
    """An event stream for what comes in; what goes out is posted beside it."""

    session = ("", "")

    def open(self, frame: str) -> None:
        self.run(partial(self._listen, frame))

    def send(self, frame: str) -> None:
        self.run(partial(self._say, frame))

    async def _listen(self, frame: str) -> None:
        links = self.links
        url = links.base.joinpath("connection/sse")
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        async with links.http.post(url, data=frame, headers=headers) as answer:
            if answer.status != 200 or answer.content_type != "text/event-stream":
                self._failed(answer, await answer.text())
                return
            half = b""
            async for chunk in answer.content.iter_any():
                *lines, half = (half + chunk).split(b"\n")
                self._events(lines)
                if len(half) > _MAX_LINE_BYTES:
                    self.lost(ABNORMAL, f"a line of over {_MAX_LINE_BYTES} bytes")
                    return
        self.lost(ABNORMAL, "the stream ended")

    def _events(self, lines: list[bytes]) -> None:
        said = "\n".join(line[6:].decode() for line in lines if line.startswith(b"data: "))
        if said:
            self.received(said)

    async def _say(self, frame: str) -> None:
        session, node = self.session
        if await self.post("emulation", text({"session": session, "node": node, "data": frame})) and not self.is_closed:
            self.links.ears.sent(self.generation)


class _Pull(_Link):
    """Requests, each with an answer: some held by the server until there is news, some not."""

    _poll: "asyncio.Task[None] | None" = None

    def open(self, frame: str) -> None:
        """Nothing is opened: each request stands for itself."""

    def send(self, frame: str) -> None:
        self.run(partial(self._send, frame))

    def poll(self, frame: str, wait_s: float) -> None:
        if self._poll is not None:
            self._poll.cancel()
        self._poll = self.run(partial(self._ask, frame, wait_s), was_poll=True)

    async def _send(self, frame: str) -> None:
        if await self.post("connection/commands", frame) and not self.is_closed:
            self.links.ears.sent(self.generation)

    async def _ask(self, frame: str, wait_s: float) -> None:
        me = self._poll
        if await self.post("connection/commands", frame, wait_s=wait_s, was_poll=True) and not self.is_closed and self._poll is me:
            self._poll = None
            self.links.ears.polled(self.generation)


_KINDS: Final[dict[str, type[_Link]]] = {"websocket": _Socket, "sse": _Stream, "longpoll": _Pull, "poll": _Pull}
