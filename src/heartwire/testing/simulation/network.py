"""A network in virtual time, between simulated clients and an ASGI application.

Each client has a `Path` to the server, with a latency and faults. Each connection on it is a `Wire`, which
runs the application in a task of its own. What enters one end of a wire leaves the other in the same order,
later or not at all.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any, Final, Literal

from heartwire.testing.simulation.loop import VirtualLoop

__all__ = ["API_KEY", "Application", "Blocked", "Kind", "Lane", "Path", "Wire"]

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
"""ASGI 3."""

Kind = Literal["websocket", "sse", "commands", "emulation", "api"]
Blocked = Literal["refused", "silent"]
"""How a middlebox blocks a transport: it refuses at once, or never answers."""

API_KEY: Final = "key of the simulation"

_ANSWERED: Final = ("commands", "emulation", "api")
_GONE: Final = ("gone", "")
_CONNECT_TIMEOUT_S: Final = 75
_GIVE_UP_S: Final = 60
"""After so long the server's system gives up a connection that acknowledges nothing. Most take longer."""


class Lane:
    """One direction of a wire.

    Attributes:
        backlog_bytes: sent, and not known to be read.
        is_acknowledged: the sender learns that it was read.
        dead_at: when it stopped passing anything; ``None`` while it works.
    """

    def __init__(self, loop: VirtualLoop, path: "Path", deliver: Callable[[Any], None]) -> None:
        self.backlog_bytes = 0
        self.is_acknowledged = True
        self.dead_at: float | None = None
        self._loop, self._path, self._deliver = loop, path, deliver
        self._last = 0.0
        self._holds = 0
        self._in_transit: deque[tuple[Any, int]] = deque()
        self._waiting: deque[tuple[Any, int]] = deque()

    def send(self, thing: Any, size: int = 0) -> None:
        self.backlog_bytes += size
        if self.dead_at is None:
            self._in_transit.append((thing, size))
            self._last = max(self._last, self._loop.now_s + self._path.delay_s())
            self._loop.call_at(self._last, self._arrive)

    def kill(self) -> None:
        """Pass nothing from now on, lose what is on its way, without any notice."""
        if self.dead_at is None:
            self.dead_at = self._loop.now_s
            self._in_transit.clear()
            self._waiting.clear()

    def hold(self) -> None:
        """Read nothing until `release` was called as often as `hold`."""
        self._holds += 1

    def release(self) -> None:
        """See `hold`."""
        self._holds -= 1
        self._read()

    def _arrive(self) -> None:
        if self._in_transit:  # else `kill` lost it
            self._waiting.append(self._in_transit.popleft())
            self._read()

    def _read(self) -> None:
        while self._waiting and not self._holds:
            thing, size = self._waiting.popleft()
            if self.is_acknowledged:
                self.backlog_bytes -= size
            self._deliver(thing)


class Path:
    """The way of the client at ``address`` to the server, and its faults. ``chance`` draws the jitter.

    Attributes:
        latency_s, jitter_s: one way, and the most that is added at random.
        window_bytes: the sender waits while more than this is unread in one direction.
        is_dark: new connections fail, "refused" at once (the system knows of no network) or "silent".
        blocked: transports that a middlebox blocks, and how.
        buffers: a middlebox holds the body of an answer back until it is complete.
        longest_s: a middlebox cuts requests that are not answered within this; 0: never.
        late_s: how much later each of the next requests arrives.
        lost_answers: for each of the next requests: its answer is lost, and ``True``: without any notice.
    """

    def __init__(self, address: str, chance: Random) -> None:
        self.address = address
        self.latency_s, self.jitter_s = 0.02, 0.01
        self.window_bytes = 64 * 1024
        self.wires: dict[Wire, None] = {}
        self._chance = chance.random
        self.heal()

    def delay_s(self) -> float:
        """The time one way, drawn anew."""
        return self.latency_s + self._chance() * self.jitter_s

    def heal(self) -> None:
        """End all faults, for what is sent from now on."""
        self.is_dark: Blocked | None = None
        self.blocked: dict[str, Blocked] = {}
        self.buffers = False
        self.longest_s = 0.0
        self.late_s: list[float] = []
        self.lost_answers: list[bool] = []


class Wire:
    """One connection, and the application's task at its other end.

    Args:
        find: returns the application when the connection arrives, or how it fails where there is no server.
        hear: called with what reaches the client: an ASGI event, or a pair of a word and a text. The words:
            "unreachable", "refused" (by a middlebox), "gone" (without a word).

    Attributes:
        server: whose application it is; for `find` to set.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        path: Path,
        kind: Kind,
        *,
        transport: str,
        query: bytes = b"",
        body: bytes = b"",
        find: Callable[["Wire"], Application | Blocked],
        hear: Callable[[Any], None],
    ) -> None:
        self.kind, self.path = kind, path
        self.task: asyncio.Task[None] | None = None
        self.server: object = None
        self.up = Lane(loop, path, self._reach_server)
        self.down = Lane(loop, path, self._reach_client)
        self.is_over_for_client = self.is_over_for_server = False
        self._is_served = False
        self.answer_is_lost: bool | None = None  # True: without any notice
        self._loop, self._find, self._hear = loop, find, hear
        self._scope = _scope(kind, path.address, query, len(body))
        self._body = body
        self._inbox: deque[dict[str, Any]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._started: dict[str, Any] | None = None
        self._held_back: list[tuple[Any, int]] | None = None
        self._blocker = path.blocked.get(transport)
        path.wires[self] = None
        self._begin()

    # -- the client's end ------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Send a WebSocket message."""
        self.up.send({"type": "websocket.receive", "text": text}, len(text))

    def abandon(self) -> None:
        """Stop listening, and close from the client's end."""
        if not self.is_over_for_client:
            self.is_over_for_client = True
            self.up.send(_GONE)
            self._forget()

    # -- troubles --------------------------------------------------------------------------------------------

    def break_silently(self, *, up: bool = True, down: bool = True) -> None:
        """Pass nothing in one direction or both. Only the server's system notices, in the end."""
        if up:
            self.up.kill()
            self.down.is_acknowledged = False
        if down:
            self.down.kill()
        self._loop.call_later(_GIVE_UP_S, self._server_loses)

    def cut(self, client_after_s: float | None = 0, server_after_s: float | None = 0) -> None:
        """Pass nothing; each end notices after so long, ``None``: not at all."""
        self.break_silently()
        if client_after_s is not None:
            self._loop.call_later(client_after_s, self._lose, _GONE)
        if server_after_s is not None:
            self._loop.call_later(server_after_s, self._server_loses)

    def end(self, *, closes: bool) -> None:
        """End the server's process, and with it the task; ``closes``: its system closes the connection."""
        if closes:
            self.down.send(_GONE)
        else:
            self.up.kill()
            self.down.kill()
        self.is_over_for_server = True
        if self.task is not None:
            self.task.cancel()
        self._forget()

    # -- the beginning ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        path = self.path
        takes_s = path.delay_s() + path.delay_s()
        is_sent = False  # True: it arrives, whatever its sender does meanwhile
        if path.is_dark is not None:
            self._fail(path.is_dark, takes_s)
            return
        if self.kind in _ANSWERED:
            if path.late_s:
                takes_s += path.late_s.pop()
                is_sent = True
            if path.lost_answers:
                self.answer_is_lost = path.lost_answers.pop()
        self._loop.call_later(takes_s, self._connected, is_sent)

    def _fail(self, how: Blocked, after_s: float) -> None:
        after_s = _CONNECT_TIMEOUT_S if how == "silent" else after_s
        self._loop.call_later(after_s, self._lose, ("unreachable", "no connection"))

    def _connected(self, is_sent: bool) -> None:
        if self.up.dead_at is not None or (self.is_over_for_client and not is_sent):
            self._forget()
            return
        application = self._find(self)
        if isinstance(application, str):
            self._fail(application, self.path.delay_s())
            return
        if self._blocker is not None:
            if self._blocker == "refused":
                self.down.send(("refused", "HTTP 403"))
            return
        if self.path.buffers and self.kind == "sse":
            self._held_back = []
        if self.kind == "websocket":
            self._inbox.append({"type": "websocket.connect"})
        else:
            self._inbox.append({"type": "http.request", "body": self._body, "more_body": False})
            if self.path.longest_s and self.kind == "commands":
                self._loop.call_later(self.path.longest_s, self._too_long)
        self._is_served = True
        self.path.wires[self] = None  # again: the client has given up a request that is late
        self.task = self._loop.create_task(self._run(application))

    async def _run(self, application: Application) -> None:
        try:
            with suppress(ConnectionResetError):
                await application(self._scope, self._receive, self._send)
        finally:
            self._is_served = False
            if not self.is_over_for_server:
                self.is_over_for_server = True
                self.down.send(_GONE)
            self._forget()

    def _too_long(self) -> None:
        if self._started is None and not self.is_over_for_client:
            self.cut()

    # -- the server's end: ASGI ------------------------------------------------------------------------------

    async def _receive(self) -> dict[str, Any]:
        while not self._inbox:
            if self.is_over_for_server:
                farewell = {"type": "websocket.disconnect", "code": 1006}
                return farewell if self.kind == "websocket" else {"type": "http.disconnect"}
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._inbox.popleft()

    async def _send(self, event: dict[str, Any]) -> None:
        if self.is_over_for_server:
            raise ConnectionResetError("the client is gone")
        if self.kind in _ANSWERED:
            self._gather(event)
        elif self._held_back is not None:
            self._hold_back(event)
        else:
            self.down.send(event, _size(event))
        while self.down.backlog_bytes > self.path.window_bytes:
            self._writer = self._loop.create_future()
            await self._writer
            if self.is_over_for_server:
                raise ConnectionResetError("the client is gone")

    def _gather(self, event: dict[str, Any]) -> None:
        """Join the parts of an answer, which the client reads as a whole."""
        if self._started is None:
            self._started = {**event, "body": b""}
            return
        self._started["body"] += event.get("body", b"")
        if not event.get("more_body"):
            if self.answer_is_lost is None:
                self.down.send(self._started, len(self._started["body"]))
            else:
                self.cut(None if self.answer_is_lost else 0)

    def _hold_back(self, event: dict[str, Any]) -> None:
        assert self._held_back is not None
        self._held_back.append((event, _size(event)))
        self.down.backlog_bytes += _size(event)
        if event["type"] == "http.response.body" and not event.get("more_body"):
            for one, size in self._held_back:
                self.down.backlog_bytes -= size
                self.down.send(one, size)
            self._held_back = None

    # -- what arrives ----------------------------------------------------------------------------------------

    def _reach_server(self, event: Any) -> None:
        if event is _GONE:
            self._server_loses()
        elif not self.is_over_for_server:
            self._inbox.append(event)
            _wake(self._waiter)

    def _reach_client(self, event: Any) -> None:
        _wake(self._writer)
        if isinstance(event, tuple):
            self._lose(event)
        elif not self.is_over_for_client:
            self.is_over_for_client = self.kind in _ANSWERED  # that was the answer
            self._hear(event)

    def _server_loses(self) -> None:
        if not self.is_over_for_server:
            self.is_over_for_server = True
            _wake(self._waiter)
            _wake(self._writer)
            if self.task is None:
                self._forget()

    def _lose(self, how: tuple[str, str]) -> None:
        if not self.is_over_for_client:
            self.is_over_for_client = True
            self._hear(how)
        self._forget()

    def _forget(self) -> None:
        """Leave the path once both ends are done, and no task is left that would die with the server."""
        if self.is_over_for_client and not self._is_served:
            self.path.wires.pop(self, None)


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _size(event: dict[str, Any]) -> int:
    return len(event.get("text") or event.get("bytes") or event.get("body") or b"")


_PATHS: Final = {"emulation": "/emulation", "api": "/api/disconnect"}


def _scope(kind: Kind, address: str, query: bytes, length: int) -> dict[str, Any]:
    path = _PATHS.get(kind) or f"/connection/{kind}"
    scope: dict[str, Any] = {"asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1"}
    scope |= {"path": path, "raw_path": path.encode(), "root_path": "", "query_string": query}
    scope |= {"client": (address, 50000), "server": ("server", 80), "extensions": {}}
    headers = [(b"host", b"server")]
    if kind == "websocket":
        return scope | {"type": "websocket", "scheme": "ws", "headers": headers, "subprotocols": []}
    if kind == "api":
        headers.append((b"x-api-key", API_KEY.encode()))
    headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    return scope | {"type": "http", "scheme": "http", "method": "POST", "headers": headers}
