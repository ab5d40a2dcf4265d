"""A network that is as bad as a test wants it: a TCP proxy on loopback, in front of a real server."""

import asyncio
import contextlib
import dataclasses
import functools
import random
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Concatenate, Final, ParamSpec, Self
from urllib.parse import urlsplit

from heartwire.testing.faulty.connections import Address, Connection
from heartwire.testing.faulty.faults import WELL, ConnectionRecord, Direction, Faults, Tap
from heartwire.testing.faulty.listeners import Listener

__all__ = ["FaultyNetwork", "faulty_network"]

_MAX_RECORDS: Final = 10_000
_ANSWER_S: Final = 10.0
"""How long another thread waits for the network's; it does nothing that takes time."""

P = ParamSpec("P")


def _on_its_loop(
    method: Callable[Concatenate["FaultyNetwork", P], None],
) -> Callable[Concatenate["FaultyNetwork", P], None]:
    """Run a method in the network's own thread; a caller in another one waits until it is done."""

    @functools.wraps(method)
    def call(self: "FaultyNetwork", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self._loop is None or threading.get_ident() == self._thread:
            method(self, *args, **kwargs)
        else:

            async def run() -> None:
                method(self, *args, **kwargs)

            asyncio.run_coroutine_threadsafe(run(), self._loop).result(_ANSWER_S)

    return call


class FaultyNetwork:
    """Stands between clients and one server, passes everything on, and fails in the ways it is told to.

    Clients connect to `url`. Each fault stays on until `heal` or another setting of the same fault; different
    ones add up, and each can be changed at any time, also before the start. `reset`, `cut` and `lose` are
    events: they happen once.

    The faults that speak of requests read HTTP/1 in the clear. TLS, or whatever else is no HTTP, passes as
    bytes: these faults do not apply to it, nor does any fault once `only` has said which paths. Of pipelined
    requests, one that the proxy answers itself is answered at once, before the ones it has overtaken.

    What is counted is payload, when it is handed to the receiving side's socket: `bytes_up` to the server's,
    `bytes_down` to the client's. What a fault takes is not counted; what the proxy answers itself is.

    It lives on a running event loop with ``add_reader``: asyncio's and uvloop's on Linux and macOS,
    ``SelectorEventLoop`` on Windows. All waiting is by that loop's clock. Its settings may be called from any
    thread. Buffers are bounded: 1 MiB each way of a connection, and what `buffer_responses` holds back. A
    receiver that does not read holds up its sender.

    Promises: when ``async with`` is left, every socket is closed, and no task, timer or thread is left.
    """

    def __init__(
        self, host: str, port: int, *, rng: random.Random | None = None, tap: Tap | None = None
    ) -> None:
        """Make one for the server at ``host`` and ``port``; it starts with ``async with``.

        Args:
            host: a name or an address; of a name, each address is tried in turn.
            port: 1 to 65535. Nobody needs to listen there yet: while nobody does, what connects is reset.
            rng: draws the jitter; default: the same numbers in each run.
            tap: is shown everything that passes.
        """
        self.accepted = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.faults: Faults = WELL
        self.rng = rng or random.Random(0)
        self.addresses: list[Address] = []
        self._server = (host, port)
        self._scheme, self._prefix = "http", ""
        self._tap = tap
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._listener: Listener | None = None
        self._open: dict[ConnectionRecord, Connection] = {}
        self._records: deque[ConnectionRecord] = deque(maxlen=_MAX_RECORDS)
        self._waiting: set[asyncio.Future[None]] = set()

    @classmethod
    def to(cls, url: str, *, rng: random.Random | None = None, tap: Tap | None = None) -> Self:
        """Make one for the server at a URL, whose path `url` keeps. Raises ``ValueError`` for one without
        host or port."""
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "ws": 80, "https": 443, "wss": 443}.get(parts.scheme)
        if not parts.hostname or not port:
            raise ValueError(f"url={url!r}: as in http://127.0.0.1:8000; a network needs a host and a port")
        network = cls(parts.hostname, port, rng=rng, tap=tap)
        network._scheme, network._prefix = parts.scheme, parts.path.rstrip("/")
        return network

    def __repr__(self) -> str:
        return (
            f"<FaultyNetwork to {self._server[0]}:{self._server[1]}: {self.accepted} accepted,"
            f" {self.connections} open, {self.bytes_up} bytes up, {self.bytes_down} bytes down>"
        )

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self.addresses = await _resolved(loop, *self._server)
        self._listener = Listener(loop, self._accept)
        self._loop, self._thread = loop, threading.get_ident()
        self._refresh()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        for connection in tuple(self._open.values()):
            connection.close(reset=False)
        self._changed()

    # -- what it tells ---------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Where it listens; the same for as long as it lives. Raises ``RuntimeError`` before it has
        started."""
        if self._listener is None:
            raise RuntimeError(
                "this network has no port before it starts: async with FaultyNetwork(...) as network"
            )
        return self._listener.port

    @property
    def url(self) -> str:
        """What clients connect to instead of the server's URL."""
        return f"{self._scheme}://127.0.0.1:{self.port}{self._prefix}"

    @property
    def ws_url(self) -> str:
        """``url`` for a WebSocket."""
        return self.url.replace("http", "ws", 1)

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._open)

    @property
    def records(self) -> list[ConnectionRecord]:
        """The last 10,000 connections, oldest first."""
        return list(self._records)

    def counted_by_kernel(self) -> tuple[int, int] | None:
        """What this machine's kernel has counted on the clients' sockets that are open: payload from them,
        and payload to them that they have acknowledged. None where it does not tell; Linux does. To be called
        in the network's thread.
        """
        counts = [connection.counted_by_kernel() for connection in self._open.values()]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts):
            return None
        return sum(up for up, _ in known), sum(down for _, down in known)

    async def until(self, condition: Callable[[], bool], *, within_s: float = 10) -> None:
        """Wait for a condition on what the network tells, as ``lambda: network.connections == 2``.

        It is looked at whenever a connection was accepted, has passed something on or was closed, and
        whenever a fault was set. In another thread than the network's: `wait_until`. Raises ``TimeoutError``.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    waiter: asyncio.Future[None] = loop.create_future()
                    self._waiting.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._waiting.discard(waiter)
        except TimeoutError:
            raise TimeoutError(f"not so within {within_s} s: {self!r}") from None

    def wait_until(self, condition: Callable[[], bool], *, within_s: float = 10) -> None:
        """`until`, for a thread that may block; the condition is looked at in the network's."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.until(condition, within_s=within_s), self._loop).result(
            within_s + _ANSWER_S
        )

    # -- faults of connections -------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Refuse new connections (``ECONNREFUSED``). Those that exist go on, as behind a server that is
        shutting down.

        With `only`, connections are taken, and reset by a request for one of its paths.
        """
        self._set(refusing=True)

    def black_hole(self, *, acknowledged: bool = True) -> None:
        """Pass nothing either way: no byte, no FIN, no RST, as if a cable was pulled. Connections old and new
        stay open.

        New ones are accepted and the server does not hear of them. After `heal` all go on, and what was sent
        meanwhile arrives, as TCP does it.

        Args:
            acknowledged: whether this machine's kernel goes on to acknowledge what is sent, until its buffers
                are full. False is for what finds dead peers through TCP; Linux only, and after `heal` it
                takes TCP's own time until more comes.
        """
        if not acknowledged and sys.platform != "linux":
            raise NotImplementedError(
                f"acknowledged=False on {sys.platform}: it takes a socket filter of Linux"
            )
        self._set(holding=True, acknowledging=acknowledged)

    @_on_its_loop
    def reset(self) -> None:
        """Reset all connections now: RST to both sides. What is under way is lost."""
        self._close_all(reset=True)

    @_on_its_loop
    def cut(self) -> None:
        """Close all connections now, in good order: FIN to both sides. What is still in the network is
        lost."""
        self._close_all(reset=False)

    @_on_its_loop
    def lose(self) -> None:
        """Lose all connections there are, for good: nothing passes on them any more, after `heal` neither,
        and nobody is told.

        New ones work. It is what a NAT does that forgets its table, or a phone that has changed its network.
        """
        for record, connection in tuple(self._open.items()):
            if self.faults.meet(record.path):
                connection.lost = True
        self._refresh()

    def delay(self, delay_s: float, *, jitter_s: float = 0) -> None:
        """Let each chunk arrive ``delay_s`` later, and up to ``jitter_s`` more, in order; FIN too. A round
        trip takes it twice.

        Existing connections too; what is under way keeps its time.
        """
        _positive("delay_s", delay_s, zero=True)
        _positive("jitter_s", jitter_s, zero=True)
        self._set(delay_s=delay_s, jitter_s=jitter_s)

    def throttle(self, bytes_per_s: float | None) -> None:
        """Pass no more than that, for each direction of each connection, existing ones too. None: as fast as
        it goes."""
        if bytes_per_s is not None:
            _positive("bytes_per_s", bytes_per_s)
        self._set(bytes_per_s=bytes_per_s)

    def cut_after(self, n_bytes: int, direction: Direction = "down") -> None:
        """Reset each new connection once ``n_bytes`` of that direction have passed; 0: instead of the first.
        Existing ones go on.

        The receiver's kernel has been handed all of them; a receiver that does not read may lose some of the
        last.
        """
        _positive("n_bytes", n_bytes, zero=True)
        if direction not in ("up", "down"):
            raise ValueError(f"direction={direction!r}: 'up' (to the server) or 'down' (to the client)")
        self._set(cut_after=(n_bytes, direction))

    # -- faults of requests ----------------------------------------------------------------------------------

    def buffer_responses(self, *, until_bytes: int = 1024 * 1024) -> None:
        """Hold responses back, heads too, until they end or ``until_bytes`` are together, as proxies do that
        buffer.

        An event stream never arrives. WebSockets (101) pass. Responses that have begun are let through.
        """
        _positive("until_bytes", until_bytes)
        self._set(buffer_bytes=until_bytes)

    def answer_502(self) -> None:
        """Answer every new request with 502, WebSocket handshakes too. The server does not hear of them.

        On connections that exist as well; what was asked before, and open WebSockets, go on.
        """
        self._set(answering_502=True)

    def strip_upgrade(self) -> None:
        """Take the headers ``Upgrade`` and ``Connection`` out of new requests: a WebSocket handshake becomes
        a plain GET.

        On connections that exist as well; open WebSockets go on.
        """
        self._set(stripping_upgrade=True)

    def cut_requests_after(self, idle_s: float) -> None:
        """End requests for which nothing has passed for ``idle_s``, as load balancers do.

        One without a byte of an answer is answered 504; one whose answer has begun, or a WebSocket, is
        closed. The server sees its connection closed. Requests under way too, counted from now. A connection
        that is kept for a next request is not idle.
        """
        _positive("idle_s", idle_s)
        self._set(idle_limit_s=idle_s)

    # -- both ------------------------------------------------------------------------------------------------

    def only(self, paths: Iterable[str] | None) -> None:
        """Let all faults, events too, meet only connections whose latest request's path starts with one of
        these. None: all again.

        So WebSocket can fail while polling works: ``network.only(["/connection/websocket"])``.
        """
        if isinstance(paths, str):
            raise TypeError(f"paths={paths!r}: a list of paths, as [{paths!r}]")
        self._set(paths=None if paths is None else tuple(paths))

    @_on_its_loop
    def heal(self) -> None:
        """End all faults, and `only`. Connections that are still open go on, and what was held back or late
        for them passes now."""
        self.faults = WELL
        for connection in tuple(self._open.values()):
            connection.heal()
        self._refresh()

    @_on_its_loop
    def _set(self, /, **changes: Any) -> None:
        self.faults = dataclasses.replace(self.faults, **changes)
        self._refresh()

    def _refresh(self) -> None:
        """Bring what exists in line with the faults."""
        if self._listener is None:
            return
        if self.faults.refusing and self.faults.paths is None:
            self._listener.shut()
        else:
            self._listener.open()
        for connection in tuple(self._open.values()):
            connection.refresh()
        self._changed()

    def _close_all(self, *, reset: bool) -> None:
        for record, connection in tuple(self._open.items()):
            if self.faults.meet(record.path):
                connection.close(reset=reset)

    # -- called by its connections ---------------------------------------------------------------------------

    def count(self, record: ConnectionRecord, direction: Direction, data: memoryview) -> None:
        """Count what has passed, and show it to the tap."""
        if direction == "up":
            self.bytes_up += len(data)
            record.bytes_up += len(data)
        else:
            self.bytes_down += len(data)
            record.bytes_down += len(data)
        if self._tap is not None:
            self._show(self._tap, record, direction, data)
        self._changed()

    def closed(self, connection: Connection) -> None:
        """Note that a connection has ended."""
        connection.record.closed_at = connection.loop.time()
        del self._open[connection.record]
        self._changed()

    def _accept(self, client: socket.socket) -> None:
        assert self._loop is not None
        self.accepted += 1
        connection = Connection(self, client, self._loop)
        self._records.append(connection.record)
        self._open[connection.record] = connection
        connection.refresh()
        self._changed()

    def _show(self, tap: Tap, record: ConnectionRecord, direction: Direction, data: memoryview) -> None:
        assert self._loop is not None
        try:
            tap(record, direction, bytes(data), self._loop.time())
        except Exception as error:  # the tap's own; the bytes have passed
            self._loop.call_exception_handler(
                {"message": "the tap of a FaultyNetwork failed", "exception": error}
            )

    def _changed(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)


async def _resolved(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:  # a name: to ask for it blocks, so the loop has a thread do it
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def _positive(name: str, value: float, *, zero: bool = False) -> None:
    if value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name}={value!r}: {'0 or more' if zero else 'more than 0'}")


@contextlib.contextmanager
def faulty_network(
    url: str, *, rng: random.Random | None = None, tap: Tap | None = None
) -> Iterator[FaultyNetwork]:
    """A `FaultyNetwork` for tests that do not run in an event loop: it has a thread of its own.

    Its settings return when they are done; `FaultyNetwork.wait_until` waits. The tap is called in the
    network's thread.
    """
    loop = asyncio.SelectorEventLoop()  # which knows add_reader also on Windows
    thread = threading.Thread(target=loop.run_forever, name="faulty-network", daemon=True)
    thread.start()
    network = FaultyNetwork.to(url, rng=rng, tap=tap)
    try:
        asyncio.run_coroutine_threadsafe(network.__aenter__(), loop).result(_ANSWER_S)
        try:
            yield network
        finally:
            asyncio.run_coroutine_threadsafe(network.__aexit__(), loop).result(_ANSWER_S)
            asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(_ANSWER_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
