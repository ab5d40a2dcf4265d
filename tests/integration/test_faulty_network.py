"""Each fault of `FaultyNetwork`, as the client and the server see it: on real sockets, in both event
loops."""

import asyncio
import contextlib
import http.client
import os
import random
import selectors
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from heartwire.testing import ConnectionRecord, FaultyNetwork, faulty_network
from heartwire.testing.server import ServerProcess
from tests.integration.wire import get, publish

Loop = Callable[[], asyncio.AbstractEventLoop]

WAIT_S = 10.0
"""The longest anything may take; a test that waits for it has failed."""
QUIET_S = 0.05
"""How long nothing has to come where nothing may come."""
EARLY_S = 0.01
"""uvloop's clock stands still within a turn of the loop, so that a wait can be shorter by that."""

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = (
    b"GET /channels/a HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection:"
    b" Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class End:
    """One end of a connection, the client's or the server's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.seen = b""

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        async with asyncio.timeout(WAIT_S):
            await self._writer.drain()

    async def gets(self, data: bytes) -> None:
        """Exactly this comes next."""
        async with asyncio.timeout(WAIT_S):
            assert await self._reader.readexactly(len(data)) == data

    async def gets_nothing(self) -> None:
        """Neither a byte nor an end comes."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                await self._reader.read(1)

    async def rest(self) -> bytes:
        """All that comes until FIN. Raises ``ConnectionError`` for RST."""
        async with asyncio.timeout(WAIT_S):
            while data := await self._reader.read(65536):
                self.seen += data
        return self.seen

    async def is_reset(self, *, after: bytes = b"") -> None:
        """RST comes, after this."""
        with pytest.raises(ConnectionError):
            await self.rest()
        assert self.seen == after

    def shut(self) -> None:
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Backend:
    """A server that does nothing but what the test says."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[End] = asyncio.Queue()
        self.all: list[End] = []
        self.port = 0

    async def next(self) -> End:
        """The next connection that was accepted."""
        async with asyncio.timeout(WAIT_S):
            return await self.ends.get()

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = End(reader, writer)
        self.all.append(end)
        self.ends.put_nowait(end)


class Lab:
    """A client's side, a network and a server."""

    def __init__(self, network: FaultyNetwork, backend: Backend) -> None:
        self.network = network
        self.backend = backend
        self.clients: list[End] = []

    async def client(self) -> End:
        async with asyncio.timeout(WAIT_S):
            client = End(*await asyncio.open_connection("127.0.0.1", self.network.port))
        self.clients.append(client)
        return client

    async def pair(self) -> tuple[End, End]:
        """A connection: the client's end and the server's."""
        return await self.client(), await self.backend.next()


@contextlib.asynccontextmanager
async def lab(**options: object) -> AsyncIterator[Lab]:
    backend = Backend()
    server = await asyncio.start_server(backend.accepted, "127.0.0.1", 0)
    backend.port = server.sockets[0].getsockname()[1]
    try:
        async with FaultyNetwork("127.0.0.1", backend.port, **options) as network:  # type: ignore[arg-type]
            room = Lab(network, backend)
            try:
                yield room
            finally:
                for end in (*room.clients, *backend.all):
                    await end.close()
    finally:
        server.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


class VirtualClock(selectors.DefaultSelector):
    """Lets an event loop's time jump to its next timer when no socket has anything to say."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(timeout and 0)
        if not events and timeout:
            self.ahead_s += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with such a clock."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        super().__init__(self.clock)

    def time(self) -> float:
        return super().time() + self.clock.ahead_s


# -- well ----------------------------------------------------------------------------------------------------


async def test_everything_passes_and_is_counted(loop_factory: Loop) -> None:
    seen: list[tuple[int, str, bytes]] = []

    def tap(connection: ConnectionRecord, direction: str, data: bytes, at: float) -> None:
        assert at >= connection.opened_at
        seen.append((connection.number, direction, data))

    up, down = random.Random(1).randbytes(3_000_000), random.Random(2).randbytes(2_000_000)
    async with lab(tap=tap) as room:
        client, server = await room.pair()
        await asyncio.gather(client.send(up), server.send(down), client.gets(down), server.gets(up))
        client.shut()
        assert await server.rest() == b""
        await server.send(b"half-closed")
        await client.gets(b"half-closed")
        server.shut()
        assert await client.rest() == b""
        await room.network.until(lambda: room.network.connections == 0)
        down += b"half-closed"
        (record,) = room.network.records
        assert (
            (room.network.bytes_up, room.network.bytes_down)
            == (record.bytes_up, record.bytes_down)
            == (len(up), len(down))
        )
        assert b"".join(data for _, direction, data in seen if direction == "up") == up
        assert b"".join(data for _, direction, data in seen if direction == "down") == down
        assert (record.number, room.network.accepted, record.request_line) == (1, 1, "")
        assert record.closed_at is not None
        assert record.closed_at >= record.opened_at


async def test_requests_are_recorded_and_the_url_keeps_its_path(
    server: ServerProcess, loop_factory: Loop
) -> None:
    async with FaultyNetwork.to(f"{server.url}/channels/") as network:
        assert network.url == f"http://127.0.0.1:{network.port}/channels"
        async with connect(f"{network.ws_url}/wellroom", proxy=None) as socket:
            await socket.send("hi")
            assert await socket.recv() == "hi"
            assert network.connections == 1
        await network.until(lambda: network.connections == 0)
        assert [record.request_line for record in network.records] == ["GET /channels/wellroom HTTP/1.1"]


async def test_nothing_is_left(loop_factory: Loop) -> None:
    left = []
    for _ in range(3):  # the first makes the loop open files of its own
        async with lab() as room:
            pairs = [await room.pair() for _ in range(3)]
            room.network.delay(60)
            await pairs[0][0].send(b"late")
            room.network.black_hole()
            await room.client()
            room.network.cut_requests_after(60)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", room.network.port)
        for _ in range(100):  # the loop closes transports of the test's own in its next turns
            await asyncio.sleep(0)
        left.append(open_files())
    assert left[0] == left[1] == left[2]


async def test_resets_are_passed_on(loop_factory: Loop) -> None:
    async with lab() as room:
        with socket.create_connection(("127.0.0.1", room.network.port)) as raw:
            server = await room.backend.next()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await server.is_reset()
        await room.network.until(lambda: room.network.connections == 0)


async def test_a_receiver_that_is_gone_resets_its_sender(loop_factory: Loop) -> None:
    async with lab() as room:
        with socket.create_connection(("127.0.0.1", room.network.port)) as raw:
            server = await room.backend.next()
            raw.shutdown(socket.SHUT_WR)
            assert await server.rest() == b""
        await server.send(b"to nobody")  # which the client's kernel answers with RST
        await room.network.until(lambda: room.network.bytes_down == len(b"to nobody"))
        await server.send(b"once more")
        await room.network.until(lambda: room.network.connections == 0)


async def test_a_server_is_found_by_its_name(loop_factory: Loop) -> None:
    # It may be an address of IPv6 first, where nobody listens.
    async with lab() as room, FaultyNetwork("localhost", room.backend.port) as network:
        _, writer = await asyncio.open_connection("127.0.0.1", network.port)
        writer.write(b"x")
        await (await room.backend.next()).gets(b"x")
        writer.close()


async def test_each_address_of_a_server_is_tried(loop_factory: Loop) -> None:
    async with lab() as room:
        room.network.addresses.insert(0, (socket.AF_INET, ("127.0.0.1", 1)))
        client, server = await room.pair()
        await client.send(b"x")
        await server.gets(b"x")


async def test_a_server_that_is_down_resets(loop_factory: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with FaultyNetwork("127.0.0.1", port) as network:
        reader, writer = await asyncio.open_connection("127.0.0.1", network.port)
        end = End(reader, writer)
        await end.is_reset()
        await end.close()


async def test_a_receiver_that_does_not_read_holds_up_its_sender(loop_factory: Loop) -> None:
    async with lab() as room:
        client, server = await room.pair()
        data = bytes(24 * 1024 * 1024)
        sending = asyncio.ensure_future(client.send(data))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                await asyncio.shield(sending)
        assert room.network.bytes_up < len(data) / 2
        await server.gets(data)
        await sending
        assert room.network.bytes_up == len(data)


async def test_a_tap_that_fails_harms_nothing(loop_factory: Loop) -> None:
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    async with lab(tap=lambda *_: 1 / 0) as room:
        client, server = await room.pair()
        await client.send(b"x")
        await server.gets(b"x")
    assert told == ["the tap of a FaultyNetwork failed"]


# -- faults of connections -----------------------------------------------------------------------------------


async def test_refuse(loop_factory: Loop) -> None:
    async with lab() as room:
        client, server = await room.pair()
        port = room.network.port
        for _ in range(3):
            room.network.refuse()
            room.network.refuse()
            with pytest.raises(ConnectionRefusedError):
                await room.client()
            with pytest.raises(OSError, match="in use"), socket.socket() as thief:
                thief.bind(("127.0.0.1", port))
            await client.send(b"on")
            await server.gets(b"on")
            room.network.heal()
            fresh, its_server = await room.pair()
            await fresh.send(b"again")
            await its_server.gets(b"again")
            assert room.network.port == port


async def test_refused_before_it_starts(loop_factory: Loop) -> None:
    network = FaultyNetwork("127.0.0.1", 1)
    network.refuse()
    async with network:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", network.port)


async def test_black_hole(loop_factory: Loop) -> None:
    async with lab() as room:
        client, server = await room.pair()
        room.network.black_hole()
        await client.send(b"up")
        await server.send(b"down")
        server.shut()
        fresh = await room.client()
        await fresh.send(b"new")
        await asyncio.gather(client.gets_nothing(), server.gets_nothing(), fresh.gets_nothing())
        assert room.backend.ends.empty()
        await room.network.until(lambda: room.network.connections == 2)
        assert (room.network.bytes_up, room.network.bytes_down) == (0, 0)
        room.network.heal()
        await server.gets(b"up")
        assert await client.rest() == b"down"
        await (await room.backend.next()).gets(b"new")


@pytest.mark.skipif(sys.platform != "linux", reason="a Linux socket filter")
async def test_black_hole_without_acknowledgement(loop_factory: Loop) -> None:
    def unacknowledged(end: End) -> int:
        sock = end._writer.get_extra_info("socket")
        return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[24:28], sys.byteorder)

    async with lab() as room:
        client, server = await room.pair()
        room.network.black_hole()
        await client.send(b"up")
        assert unacknowledged(client) == 0
        room.network.black_hole(acknowledged=False)
        await client.send(b"more")
        await server.send(b"down")
        await asyncio.gather(client.gets_nothing(), server.gets_nothing())
        assert (unacknowledged(client), unacknowledged(server)) == (1, 1)
        room.network.heal()
        await server.gets(b"upmore")
        await client.gets(b"down")


async def test_lose(loop_factory: Loop) -> None:
    async with lab() as room:
        client, server = await room.pair()
        room.network.lose()
        await client.send(b"up")
        await server.send(b"down")
        fresh, its_server = await room.pair()
        room.network.black_hole()
        await fresh.send(b"held back")
        room.network.heal()
        await its_server.gets(b"held back")
        await asyncio.gather(client.gets_nothing(), server.gets_nothing())
        assert room.network.connections == 2
        room.network.reset()
        await client.is_reset()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what it has counted")
async def test_the_kernel_counts_the_same(loop_factory: Loop) -> None:
    async with lab() as room:
        client, server = await room.pair()
        await client.send(b"u" * 100_000)
        await server.gets(b"u" * 100_000)
        await server.send(b"d" * 50_000)
        await client.gets(b"d" * 50_000)
        async with asyncio.timeout(WAIT_S):
            while room.network.counted_by_kernel() != (100_000, 50_000):  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0.01)
        assert (room.network.bytes_up, room.network.bytes_down) == (100_000, 50_000)
        await client.close()
        await server.close()
        await room.network.until(lambda: room.network.connections == 0)
        assert room.network.counted_by_kernel() == (0, 0)


async def test_reset(loop_factory: Loop) -> None:
    async with lab() as room:
        pairs = [await room.pair() for _ in range(2)]
        room.network.reset()
        assert room.network.connections == 0
        for client, server in pairs:
            await client.is_reset()
            await server.is_reset()
        client, server = await room.pair()
        await client.send(b"new ones go on")
        await server.gets(b"new ones go on")


async def test_cut(loop_factory: Loop) -> None:
    async with lab() as room:
        client, server = await room.pair()
        await client.send(b"before")
        await server.gets(b"before")
        room.network.black_hole()
        await client.send(b"unread, which must not make RST of the FIN")
        room.network.cut()
        assert room.network.connections == 0
        assert (await client.rest(), await server.rest()) == (b"", b"")


async def test_delay(loop_factory: Loop) -> None:
    async with lab() as room:
        client, server = await room.pair()
        room.network.delay(0.08)
        begun = time.monotonic()
        await client.send(b"up")
        client.shut()
        await server.gets(b"up")
        assert time.monotonic() - begun >= 0.08 - EARLY_S
        assert await server.rest() == b""
        await server.send(b"down")
        await client.gets(b"down")
        assert time.monotonic() - begun >= 0.16 - EARLY_S
        room.network.delay(60)
        await server.send(b"held")
        await client.gets_nothing()
        room.network.heal()
        await client.gets(b"held")


def test_time_is_the_loops() -> None:
    async def hours() -> None:
        async with lab() as room:
            client, server = await room.pair()
            room.network.delay(3600, jitter_s=60)
            begun = asyncio.get_running_loop().time()
            await client.send(b"x")
            assert await server._reader.read(1) == b"x"
            assert 3600 <= asyncio.get_running_loop().time() - begun < 3700
            room.network.heal()
            room.network.cut_requests_after(600)
            client, _ = await room.pair()
            await client.send(GET)
            assert b"504 Gateway Timeout" in await client._reader.read()

    begun = time.monotonic()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(hours())
    assert time.monotonic() - begun < WAIT_S


async def test_jitter_keeps_the_order_and_is_the_same_each_time(loop_factory: Loop) -> None:
    async def times() -> list[float]:
        seen: list[tuple[bytes, float]] = []
        async with lab(rng=random.Random(7), tap=lambda _, __, data, at: seen.append((data, at))) as room:
            client, server = await room.pair()
            room.network.delay(0.01, jitter_s=0.05)
            begun = asyncio.get_running_loop().time()
            await client.send(b"a")
            await server.gets(b"a")
        return [at - begun for _, at in seen]

    expected = 0.01 + random.Random(7).uniform(0, 0.05)
    (took,) = await times()
    assert expected - EARLY_S <= took < expected + 0.5
    async with lab() as room:
        client, server = await room.pair()
        room.network.delay(0, jitter_s=0.02)
        for number in range(100):
            await client.send(b"%02d" % number)
            await asyncio.sleep(0)
        await server.gets(b"".join(b"%02d" % number for number in range(100)))


async def test_throttle(loop_factory: Loop) -> None:
    async with lab() as room:
        client, server = await room.pair()
        room.network.throttle(100_000)
        begun = time.monotonic()
        await asyncio.gather(
            client.send(bytes(10_000)), server.send(bytes(10_000)), server.gets(bytes(10_000))
        )
        await client.gets(bytes(10_000))
        assert 0.08 - EARLY_S <= time.monotonic() - begun < WAIT_S / 2
        room.network.throttle(1)
        await client.send(b"abc")
        await server.gets(b"a")
        await server.gets_nothing()
        room.network.throttle(None)
        await server.gets(b"bc")


@pytest.mark.parametrize("n_bytes", [0, 1, 70_001])
async def test_cut_after_bytes_down(n_bytes: int, loop_factory: Loop) -> None:
    async with lab() as room:
        old, its_server = await room.pair()
        room.network.cut_after(n_bytes)
        client, server = await room.pair()
        data = random.Random(3).randbytes(100_000)
        await client.send(data)
        await server.gets(data)
        with contextlib.suppress(ConnectionError):
            await server.send(data)
        await client.is_reset(after=data[:n_bytes])
        await server.is_reset()
        assert room.network.records[-1].bytes_down == n_bytes
        await its_server.send(data)
        await old.gets(data)


async def test_cut_after_bytes_up(loop_factory: Loop) -> None:
    async with lab() as room:
        room.network.cut_after(5, "up")
        client, server = await room.pair()
        await client.send(b"12345678")
        await server.is_reset(after=b"12345")
        await client.is_reset()
        room.network.cut_after(5, "up")
        client, server = await room.pair()
        room.network.heal()
        await client.send(b"12345678")
        await server.gets(b"12345678")


# -- faults of requests --------------------------------------------------------------------------------------


async def test_buffer_responses(loop_factory: Loop) -> None:
    async with lab() as room:
        room.network.buffer_responses(until_bytes=1000)
        client, server = await room.pair()
        await client.send(GET)
        await server.gets(GET)
        event = b"6\r\ndata: \r\n"
        await server.send(STREAM + event)
        await client.gets_nothing()
        await server.send(b"0\r\n\r\n")
        await client.gets(STREAM + event + b"0\r\n\r\n")
        await client.send(GET)
        await server.gets(GET)
        await server.send(STREAM + event)
        await client.gets_nothing()
        room.network.heal()
        await client.gets(STREAM + event)


async def test_a_response_without_length_is_held_until_its_connection_ends(loop_factory: Loop) -> None:
    async with lab() as room:
        room.network.buffer_responses()
        client, server = await room.pair()
        await client.send(GET)
        await server.gets(GET)
        await server.send(b"HTTP/1.1 200 OK\r\n\r\npart")
        await client.gets_nothing()
        server.shut()
        assert await client.rest() == b"HTTP/1.1 200 OK\r\n\r\npart"


async def test_buffering_stops_sse_and_lets_the_rest_pass(
    server: ServerProcess, channel: str, loop_factory: Loop
) -> None:
    async with FaultyNetwork.to(server.url) as network:
        network.buffer_responses()
        reader, writer = await asyncio.open_connection("127.0.0.1", network.port)
        stream = End(reader, writer)
        await stream.send(
            f"GET /channels/{channel} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        await stream.gets_nothing()
        async with connect(f"{network.ws_url}/channels/{channel}", proxy=None) as socket:
            await socket.send("hi")
            assert await socket.recv() == "hi"
        answer = await asyncio.to_thread(get, network.url, f"/channels/{channel}?since=earliest")
        assert [item["data"] for item in answer.json["publications"]] == ["hi"]
        await stream.gets_nothing()
        await stream.close()


async def test_answer_502(loop_factory: Loop) -> None:
    async with lab() as room:
        old, its_server = await room.pair()
        await old.send(GET)
        await its_server.gets(GET)
        room.network.answer_502()
        client = await room.client()
        for request in (GET, UPGRADE, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"):
            await client.send(request)
            await client.gets(b"HTTP/1.1 502 Bad Gateway\r\n")
            await client.gets(b"Content-Type: text/plain\r\nContent-Length: 16\r\n\r\n502 Bad Gateway\n")
        await its_server.send(STREAM + b"0\r\n\r\n")  # asked before
        await old.gets(STREAM + b"0\r\n\r\n")
        await old.send(GET)
        await old.gets(b"HTTP/1.1 502 ")
        client.shut()
        await client.rest()
        assert room.backend.ends.empty(), "the server does not hear of it"


async def test_502_as_clients_see_it(server: ServerProcess, loop_factory: Loop) -> None:
    async with FaultyNetwork.to(server.url) as network:
        network.answer_502()
        answer = await asyncio.to_thread(get, network.url, "/health")
        assert answer.status == 502
        with pytest.raises(InvalidStatus, match="502"):
            await connect(f"{network.ws_url}/channels/a", proxy=None)
        network.heal()
        assert (await asyncio.to_thread(get, network.url, "/health")).status == 200


async def test_strip_upgrade(loop_factory: Loop) -> None:
    async with lab() as room:
        room.network.strip_upgrade()
        client, server = await room.pair()
        await client.send(UPGRADE)
        stripped = UPGRADE.replace(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"")
        await server.gets(stripped)
        room.network.heal()
        await server.send(STREAM + b"0\r\n\r\n")
        await client.gets(STREAM + b"0\r\n\r\n")
        await client.send(UPGRADE)
        await server.gets(UPGRADE)
        assert room.network.bytes_up == len(stripped + UPGRADE)


async def test_a_stripped_handshake_is_a_plain_get(server: ServerProcess, loop_factory: Loop) -> None:
    async with FaultyNetwork.to(server.url) as network:
        network.strip_upgrade()
        with pytest.raises(InvalidStatus, match="200"):
            await connect(f"{network.ws_url}/channels/stripped", proxy=None)


async def test_cut_requests_after(loop_factory: Loop) -> None:
    async with lab() as room:
        idle, its_server = await room.pair()
        network = room.network
        network.cut_requests_after(0.1)
        poll, poll_server = await room.pair()
        stream, stream_server = await room.pair()
        websocket, websocket_server = await room.pair()
        await asyncio.gather(poll.send(GET), stream.send(GET), websocket.send(UPGRADE))
        await asyncio.gather(stream_server.gets(GET), websocket_server.gets(UPGRADE))
        await asyncio.gather(stream_server.send(STREAM), websocket_server.send(SWITCHED))
        assert (
            await poll.rest()
            == b"HTTP/1.1 504 Gateway Timeout\r\nContent-Type: text/plain\r\nContent-Length:"
            b" 20\r\nConnection: close\r\n\r\n504 Gateway Timeout\n"
        )
        assert await poll_server.rest() == GET
        assert await stream.rest() == STREAM
        assert await stream_server.rest() == b""
        assert await websocket.rest() == SWITCHED
        assert await websocket_server.rest() == b""
        await asyncio.gather(idle.gets_nothing(), its_server.gets_nothing())  # kept for a next request


@pytest.mark.slow
async def test_what_is_not_idle_is_not_cut(loop_factory: Loop) -> None:
    async with lab() as room:
        client, server = await room.pair()
        await client.send(GET)
        await server.gets(GET)
        await server.send(STREAM)
        await client.gets(STREAM)
        room.network.throttle(60)
        room.network.cut_requests_after(0.1)
        begun = time.monotonic()
        await server.send(b"6\r\nhello!\r\n")
        assert await client.rest() == b"6\r\nhello!\r\n"
        assert time.monotonic() - begun >= 10 / 60 + 0.1 - EARLY_S


# -- some paths only -----------------------------------------------------------------------------------------


async def test_websockets_are_blocked_and_polls_work(server: ServerProcess, loop_factory: Loop) -> None:
    async with FaultyNetwork.to(server.url) as network:
        network.only(["/connection/websocket"])
        network.answer_502()
        with pytest.raises(InvalidStatus, match="502"):
            await connect(f"{network.ws_url}/connection/websocket", proxy=None)
        assert (await asyncio.to_thread(get, network.url, "/health")).status == 200
        network.heal()
        network.only(["/connection/websocket"])
        async with connect(f"{network.ws_url}/connection/websocket", proxy=None, close_timeout=1) as socket:
            network.reset()
            with pytest.raises(ConnectionClosed):
                await socket.recv()


async def test_faults_of_connections_meet_only_some_paths(loop_factory: Loop) -> None:
    async with lab() as room:
        network = room.network
        network.only(["/channels"])
        network.black_hole()
        network.cut_after(10)
        held, held_server = await room.pair()
        well, well_server = await room.pair()
        await held.send(UPGRADE)
        await well.send(GET)
        await well_server.gets(GET)
        await well_server.send(STREAM)
        await well.gets(STREAM)
        await held_server.gets_nothing()
        network.cut()
        assert await held.rest() == b""
        assert network.connections == 1
        network.refuse()
        refused, _ = await room.pair()
        await refused.send(UPGRADE)
        await refused.is_reset()


# -- settings ------------------------------------------------------------------------------------------------


def test_wrong_settings_are_named() -> None:
    network = FaultyNetwork("127.0.0.1", 1)
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: network.delay(-1), "delay_s=-1: 0 or more"),
        (lambda: network.throttle(0), "bytes_per_s=0: more than 0"),
        (lambda: network.cut_after(-1), "n_bytes=-1: 0 or more"),
        (lambda: network.cut_after(1, "left"), "direction='left': 'up'"),  # type: ignore[arg-type]
        (lambda: network.buffer_responses(until_bytes=0), "until_bytes=0: more than 0"),
        (lambda: network.cut_requests_after(0), "idle_s=0: more than 0"),
        (lambda: FaultyNetwork.to("127.0.0.1:8000"), "as in http://127.0.0.1:8000"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="a list of paths"):
        network.only("/a")
    with pytest.raises(RuntimeError, match="before it starts"):
        network.url  # noqa: B018


async def test_waiting_in_vain_says_what_is(loop_factory: Loop) -> None:
    async with lab() as room:
        with pytest.raises(
            TimeoutError, match=r"not so within 0.01 s: <FaultyNetwork .*: 0 accepted, 0 open, 0 bytes up"
        ):
            await room.network.until(lambda: False, within_s=0.01)


# -- in a thread of its own ----------------------------------------------------------------------------------


@pytest.fixture
def threaded(server: ServerProcess) -> Iterator[FaultyNetwork]:
    with faulty_network(server.url) as network:
        yield network


def test_a_network_with_a_thread_of_its_own(threaded: FaultyNetwork) -> None:
    publish(threaded.url, "threaded", "hi")
    connection = http.client.HTTPConnection("127.0.0.1", threaded.port, timeout=WAIT_S)
    with contextlib.closing(connection):
        connection.request("GET", "/health")
        assert connection.getresponse().read()
        threaded.wait_until(lambda: threaded.connections == 1)
        threaded.reset()
        assert threaded.connections == 0
        threaded.refuse()
        connection.close()
        with pytest.raises(ConnectionRefusedError):
            connection.request("GET", "/health")
        connection.close()
        threaded.heal()
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
    assert next(record.request_line for record in threaded.records) == "POST /channels/threaded HTTP/1.1"
    with pytest.raises(TimeoutError, match="not so within"):
        threaded.wait_until(lambda: False, within_s=0.01)


def test_its_thread_ends(server: ServerProcess) -> None:
    before = threading.active_count()
    with faulty_network(server.url):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
