"""A network with faults: a TCP proxy on loopback, in front of a real server."""

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
"""How long another thread waits for the network's, which never blocks."""

P = ParamSpec("P")


def _on_its_loop(
    method: Callable[Concatenate["FaultyNetwork", P], None],
) -> Callable[Concatenate["FaultyNetwork", P], None]:
    """Run a method in the network's thread; a caller in another thread waits for it."""

    @functools.wraps(method)
    def call(self: "FaultyNetwork", /, *args: P.args, **kwargs: P.kwargs) -> None:
        async def run() -> None:
            method(self, *args, **kwargs)

        if self._loop is None or threading.get_ident() == self._thread:
            method(self, *args, **kwargs)
        else:
            asyncio.run_coroutine_threadsafe(run(), self._loop).result(_ANSWER_S)

    return call


class FaultyNetwork:
    """Stands between clients and one server, and passes everything on, except what the faults take.

    Clients connect to `url`. Each fault stays on until `heal` or another setting of the same fault; faults
    add up, and each can change at any time, also before the start. `reset`, `cut` and `lose` happen once.

    Faults of requests read HTTP/1 without TLS. TLS and other protocols pass as bytes: these faults do not
    apply to them, and no fault does after `only`. The proxy answers a pipelined request itself at once,
    before the earlier ones are answered.

    Counted is payload, when it is handed to the receiver's socket: `bytes_up` to the server's, `bytes_down`
    to the client's. Bytes that a fault takes do not count; the proxy's own answers do.

    It needs a running event loop with ``add_reader``: asyncio's and uvloop's on Linux and macOS,
    ``SelectorEventLoop`` on Windows, and all waiting is by that loop's clock. Settings may be called from any
    thread. Buffers are bounded: 1 MiB each way of a connection, and `buffer_responses`. A receiver that
    does not read holds up its sender.

    Promises: after ``async with`` every socket is closed, and no task, timer or thread is left.
    """

    def __init__(
        self, host: str, port: int, *, rng: random.Random | None = None, tap: Tap | None = None
    ) -> None:
        """Make one for a server; it starts with ``async with``.

        Args:
            host: a name or an address; each address of a name is tried in turn.
            port: 1 to 65535. While nothing listens there, connections are reset.
            rng: draws the jitter; default: the same numbers in each run.
            tap: called with everything that passes.
        """
        self.accepted = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.faults: Faults = WELL
        self.rng = rng or random.Random(0)
        self.addresses: list[Address] = []
        self._server, self._scheme, self._prefix = (host, port), "http", ""
        self._tap = tap
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._listener: Listener | None = None
        self._open: dict[ConnectionRecord, Connection] = {}
        self._records: deque[ConnectionRecord] = deque(maxlen=_MAX_RECORDS)
        self._waiting: set[asyncio.Future[None]] = set()

    @classmethod
    def to(cls, url: str, *, rng: random.Random | None = None, tap: Tap | None = None) -> Self:
        """Make one for the server at ``url``; the network's `url` keeps its path.

        Raises ``ValueError`` for a URL without host or port.
        """
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "ws": 80, "https": 443, "wss": 443}.get(parts.scheme)
        if not parts.hostname or not port:
            raise ValueError(f"url={url!r}: as in http://127.0.0.1:8000; a network needs a host and a port")
        network = cls(parts.hostname, port, rng=rng, tap=tap)
        network._scheme, network._prefix = parts.scheme, parts.path.rstrip("/")
        return network

    def __repr__(self) -> str:
        counts = f"{self.accepted} accepted, {self.connections} open"
        sizes = f"{self.bytes_up} bytes up, {self.bytes_down} bytes down"
        return f"<FaultyNetwork to {self._server[0]}:{self._server[1]}: {counts}, {sizes}>"

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

    # -- observation -----------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port it listens on, always the same. Raises ``RuntimeError`` before the start."""
        if self._listener is None:
            raise RuntimeError("no port before it starts: async with FaultyNetwork(...) as network")
        return self._listener.port

    @property
    def url(self) -> str:
        """The URL for clients, instead of the server's."""
        return f"{self._scheme}://127.0.0.1:{self.port}{self._prefix}"

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    @property
    def records(self) -> list[ConnectionRecord]:
        """The last 10,000 connections, oldest first."""
        return list(self._records)

    def counted_by_kernel(self) -> tuple[int, int] | None:
        """The kernel's count of the open client sockets: bytes received, and bytes sent and acknowledged.

        None where the kernel does not report it; Linux does. Call it in the network's thread.
        """
        counts = [connection.counted_by_kernel() for connection in self._open.values()]
        known = [count for count in counts if count is not None]
        if len(known) < len(counts):
            return None
        return sum(up for up, _ in known), sum(down for _, down in known)

    async def until(self, condition: Callable[[], bool], *, within_s: float = 10) -> None:
        """Wait for a condition on the network, as ``lambda: network.connections == 2``.

        It is checked whenever a connection is accepted, passes bytes or closes, and when a fault is set.
        In another thread call `wait_until`. Raises ``TimeoutError``.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    waiter: asyncio.Future[None] = loop.create_future()
                    self._waiting.add(waiter)
                    waiter.add_done_callback(self._waiting.discard)
                    await waiter
        except TimeoutError:
            raise TimeoutError(f"not so within {within_s} s: {self!r}") from None

    def wait_until(self, condition: Callable[[], bool], *, within_s: float = 10) -> None:
        """`until` for another thread, which it blocks; the condition runs in the network's thread."""
        assert self._loop is not None
        waiting = self.until(condition, within_s=within_s)
        asyncio.run_coroutine_threadsafe(waiting, self._loop).result(within_s + _ANSWER_S)

    # -- faults of connections -------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Refuse new connections (``ECONNREFUSED``); existing ones go on.

        After `only`, connections are accepted, and reset at a request for one of its paths.
        """
        self._set(refusing=True)

    def black_hole(self, *, acknowledged: bool = True) -> None:
        """Pass nothing either way: no byte, no FIN, no RST, as if a cable was pulled. No connection closes.

        New ones are accepted and do not reach the server. After `heal` all go on, and what was sent meanwhile
        arrives.

        Args:
            acknowledged: whether this machine's kernel still acknowledges what is sent, until its buffers are
                full. False, on Linux only, is for code that detects dead peers through TCP; after `heal` the
                next bytes come with TCP's retransmissions.
        """
        if not acknowledged and sys.platform != "linux":
            raise NotImplementedError(
                f"acknowledged=False on {sys.platform}: it takes a socket filter of Linux"
            )
        self._set(holding=True, acknowledging=acknowledged)

    @_on_its_loop
    def reset(self) -> None:
        """Reset all connections now: RST to both sides. Bytes on the way are lost."""
        self._close_all(reset=True)

    @_on_its_loop
    def cut(self) -> None:
        """Close all connections now: FIN to both sides. Bytes on the way are lost."""
        self._close_all(reset=False)

    @_on_its_loop
    def lose(self) -> None:
        """Lose all existing connections for good and silently: nothing passes on them, after `heal` neither.

        New ones work. A NAT that forgets its table does this, and a phone that changes its network.
        """
        for record, connection in tuple(self._open.items()):
            if self.faults.meet(record.path):
                connection.lost = True
        self._refresh()

    def delay(self, delay_s: float, *, jitter_s: float = 0) -> None:
        """Delay each chunk, and FIN, by ``delay_s`` and up to ``jitter_s`` more, in order, each way.

        On existing connections too; chunks on the way keep their time.
        """
        _positive("delay_s", delay_s, zero=True)
        _positive("jitter_s", jitter_s, zero=True)
        self._set(delay_s=delay_s, jitter_s=jitter_s)

    def throttle(self, bytes_per_s: float | None) -> None:
        """Limit each direction of each connection, existing ones too. None: no limit."""
        if bytes_per_s is not None:
            _positive("bytes_per_s", bytes_per_s)
        self._set(bytes_per_s=bytes_per_s)

    def cut_after(self, n_bytes: int, direction: Direction = "down") -> None:
        """Reset each new connection after ``n_bytes`` of one direction; 0: before the first byte.

        Existing ones go on. The receiver's kernel has all ``n_bytes``; a receiver that does not read may lose
        some of the last.
        """
        _positive("n_bytes", n_bytes, zero=True)
        if direction not in ("up", "down"):
            raise ValueError(f"direction={direction!r}: 'up' (to the server) or 'down' (to the client)")
        self._set(cut_after=(n_bytes, direction))

    # -- faults of requests ----------------------------------------------------------------------------------

    def buffer_responses(self, *, until_bytes: int = 1024 * 1024) -> None:
        """Hold responses and their heads back until they end or reach ``until_bytes``: a buffering proxy.

        An event stream never arrives. WebSockets (101) and responses that have begun pass.
        """
        _positive("until_bytes", until_bytes)
        self._set(buffer_bytes=until_bytes)

    def answer_502(self) -> None:
        """Answer every new request with 502, WebSocket handshakes too. They do not reach the server.

        On existing connections too; earlier requests and open WebSockets go on.
        """
        self._set(answering_502=True)

    def strip_upgrade(self) -> None:
        """Remove ``Upgrade`` and ``Connection`` from new requests: a WebSocket handshake becomes a plain GET.

        On existing connections too; open WebSockets go on.
        """
        self._set(stripping_upgrade=True)

    def cut_requests_after(self, idle_s: float) -> None:
        """End requests for which nothing passes for ``idle_s``, as load balancers do.

        A request without a byte of an answer gets 504; one whose answer has begun, or a WebSocket, is closed.
        The server sees its connection close. For current requests the time counts from now. A connection kept
        for a next request is not idle.
        """
        _positive("idle_s", idle_s)
        self._set(idle_limit_s=idle_s)

    # -- both ------------------------------------------------------------------------------------------------

    def only(self, paths: Iterable[str] | None) -> None:
        """Apply all faults only to connections whose latest request's path starts with one of ``paths``.

        None: to all again. ``only(["/connection/websocket"])`` lets WebSocket fail while polling works.
        """
        if isinstance(paths, str):
            raise TypeError(f"paths={paths!r}: a list of paths, as [{paths!r}]")
        self._set(paths=None if paths is None else tuple(paths))

    @_on_its_loop
    def heal(self) -> None:
        """End all faults, and `only`. Open connections go on, and what was held back or late passes now."""
        self.faults = WELL
        for connection in tuple(self._open.values()):
            connection.heal()
        self._refresh()

    @_on_its_loop
    def _set(self, /, **changes: Any) -> None:
        self.faults = dataclasses.replace(self.faults, **changes)
        self._refresh()

    def _refresh(self) -> None:
        """Apply the faults to what exists."""
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
        if direction == "up":
            self.bytes_up += len(data)
            record.bytes_up += len(data)
        else:
            self.bytes_down += len(data)
            record.bytes_down += len(data)
        assert self._loop is not None
        try:
            if self._tap is not None:
                self._tap(record, direction, bytes(data), self._loop.time())
        except Exception as error:  # the tap's own; the bytes have passed
            context = {"message": "the tap of a FaultyNetwork failed", "exception": error}
            self._loop.call_exception_handler(context)
        self._changed()

    def closed(self, connection: Connection) -> None:
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

    def _changed(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)


async def _resolved(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:  # a name: looking it up blocks, so the loop does it in a thread
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def _positive(name: str, value: float, *, zero: bool = False) -> None:
    if value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name}={value!r}: {'0 or more' if zero else 'more than 0'}")


@contextlib.contextmanager
def faulty_network(
    url: str, *, rng: random.Random | None = None, tap: Tap | None = None
) -> Iterator[FaultyNetwork]:
    """A `FaultyNetwork` in a thread of its own, for tests without an event loop.

    Its settings return when they are done; `FaultyNetwork.wait_until` waits. The tap runs in the network's
    thread.
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
