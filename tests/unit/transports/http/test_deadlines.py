"""Each phase of an HTTP connection ends in its time, on a real server and by a clock moved by hand; half-closed
clients are answered; what is held has a bound."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from heartwire import Hub
from heartwire.server.config import Settings
from heartwire.server.plain.fast_path import FastPath
from heartwire.server.run import uvicorn_config
from heartwire.transports.http.connection import HttpBounds
from heartwire.transports.http.front import Facts, FrontProtocol, front_protocol
from heartwire.transports.http.phases import BODY_GRACE_S, HttpTimes
from heartwire.transports.http.request import HeartwireHttpProtocol
from tests.unit.transports.fake_socket import FakeTransport
from tests.unit.transports.tools import KEY, Served, Wire, at_rest, published, run, serve_native, soon, until

PAGE = "x" * 12_000_000
"""More than the kernel takes for a client that does not read."""

WAYS = {"front": "", "asgi": "Origin: http://here\r\n"}


def get(target: str, lines: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: here\r\n{lines}\r\n".encode()


@contextlib.asynccontextmanager
async def server(hub: Hub, bounds: HttpBounds) -> AsyncIterator[Served]:
    config = uvicorn_config(Settings(), hub)
    config.http = front_protocol(FastPath(hub.node, lambda *_: False), bounds)
    config.log_config = None
    async with run(config, hub=hub) as served:
        yield served


async def ended(wire: Wire) -> str:
    """Wait, without reading, until the server has ended the connection; how it did."""
    loop = asyncio.get_running_loop()
    while True:
        state = wire.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state == 7:  # TCP_CLOSE
            return "reset"
        if state != 1:  # TCP_ESTABLISHED
            return "closed"
        await soon(asyncio.sleep(0))
        assert loop.is_running()


# -- on a real server ----------------------------------------------------------------------------------------


async def test_a_silent_connection_is_closed_and_a_part_of_a_head_is_answered() -> None:
    async with server(Hub(), HttpBounds(HttpTimes(head_s=0.05))) as served:
        async with await Wire.open(served) as wire:
            assert await wire.rest() == b""
        for part in (b"GET /health HTTP/1.1\r\nHost: he", b"G"):
            async with await Wire.open(served) as wire:
                await wire.send(part)
                assert (await wire.rest()).startswith(b"HTTP/1.1 408 ")
        async with await Wire.open(served) as wire:  # the second head of a connection
            await wire.send(get("/health"))
            assert (await wire.answer()).status == 200
            await wire.send(b"GET /health HTTP/1.1\r\nHost: he")
            assert (await wire.rest()).startswith(b"HTTP/1.1 408 ")
        async with await Wire.open(served) as wire:  # empty lines before a head
            await wire.send(b"\r\n")
            await wire.send(get("/health"))
            assert (await wire.answer()).status == 200


async def test_a_body_that_does_not_come_ends_the_connection_when_nobody_reads_it() -> None:
    bounds = HttpBounds(HttpTimes(body_s=0.05 - BODY_GRACE_S))
    async with server(Hub(), bounds) as served, await Wire.open(served) as wire:
        await wire.send(b"POST /nowhere HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nhalf")
        assert b"404" in (await wire.rest())[:20]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("requests", [1, 100])
async def test_a_client_that_takes_nothing_is_reset(way: str, requests: int) -> None:
    hub, bounds = Hub(max_message_bytes=len(PAGE)), HttpBounds(HttpTimes(write_s=0.1))
    async with server(hub, bounds) as served, await Wire.open(served) as wire:
        await hub.publish("big", PAGE)
        wire.sock.send(get("/channels/big?since=earliest", WAYS[way]) * requests)
        await until(lambda: bounds.held_bytes, "the answer is held")
        assert served.server.server_state.total_requests <= 1, "the others are not begun"
        assert bounds.held_bytes < len(PAGE) + 100_000
        assert await ended(wire) == "reset"
        await until(lambda: served.open_connections == 0)
        assert bounds.held_bytes == 0


@pytest.mark.parametrize("way", WAYS)
async def test_pipelined_requests_are_all_answered_when_the_client_reads_at_last(way: str) -> None:
    hub, bounds = Hub(max_message_bytes=len(PAGE)), HttpBounds()
    async with server(hub, bounds) as served, await Wire.open(served) as wire:
        await hub.publish("big", PAGE)
        wire.sock.send(get("/channels/big?since=earliest", WAYS[way]) * 3 + get("/health", WAYS[way]) * 50)
        await until(lambda: bounds.held_bytes)
        answers = [await wire.answer() for _ in range(53)]
        assert [len(answer.body) > len(PAGE) for answer in answers] == [True] * 3 + [False] * 50
        assert bounds.held_bytes == 0
        await wire.send(get("/health"))
        assert (await wire.answer()).status == 200


async def test_one_connection_too_many_is_reset() -> None:
    async with server(Hub(), HttpBounds(max_connections=1)) as served, await Wire.open(served) as wire:
        assert await ended(wire) == "reset"
        await until(lambda: served.open_connections == 0)


# -- half-closed clients -------------------------------------------------------------------------------------

POST = "POST /channels/c HTTP/1.1\r\nHost: here\r\n{}Content-Length: 2\r\n\r\nhi"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("request_", ["GET /channels/c", "GET /channels/c?wait=50", "GET /health", POST])
async def test_a_half_closed_client_is_answered(way: str, request_: str) -> None:
    """As `nc -N` is."""
    data = request_.format(WAYS[way]).encode() if request_ is POST else get(request_[4:], WAYS[way])
    hub = Hub()
    async with serve_native(hub) as served, await Wire.open(served) as wire:
        wire.sock.send(data)
        wire.sock.shutdown(socket.SHUT_WR)
        answer = await wire.answer()
        assert answer.status == 200
        assert await wire.rest() == b""
        assert bool(published(hub, "c")) == (request_ is POST)
        await until(lambda: at_rest(hub))
        await until(lambda: served.open_connections == 0)


@pytest.mark.parametrize("way", WAYS)
async def test_a_half_closed_client_gets_all_the_answers_to_what_it_has_asked(way: str) -> None:
    hub = Hub()
    async with serve_native(hub) as served, await Wire.open(served) as wire:
        wire.sock.send(get("/channels/c", WAYS[way]) * 100)
        wire.sock.shutdown(socket.SHUT_WR)
        for _ in range(100):
            assert (await wire.answer()).status == 200
        assert await wire.rest() == b""
        await until(lambda: served.open_connections == 0)


async def test_a_half_closed_stream_and_half_a_body_end() -> None:
    hub = Hub()
    async with serve_native(hub) as served:
        for data in (
            get("/channels/c", "Accept: text/event-stream\r\n"),
            b"POST /channels/c HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nhalf",
        ):
            async with await Wire.open(served) as wire:
                await wire.send(data)
                wire.sock.shutdown(socket.SHUT_WR)
                await wire.rest()
        await until(lambda: at_rest(hub) and served.open_connections == 0)
        assert published(hub, "c") == []


# -- Host ----------------------------------------------------------------------------------------------------

SOCKET = (
    f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
)


@pytest.mark.parametrize("hosts", ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n"])
@pytest.mark.parametrize(
    "line", ["GET /channels/c", "GET /health", "POST /channels/c", "GET /channels/c socket"]
)
async def test_a_request_has_one_host(hosts: str, line: str) -> None:
    """RFC 9112 3.2."""
    hub = Hub()
    lines = SOCKET if line.endswith("socket") else "Content-Length: 0\r\n"
    head = f"{' '.join(line.split()[:2])} HTTP/1.1\r\n{hosts}{lines}\r\n".encode()
    async with serve_native(hub) as served:
        for pieces in ((head,), (head[:9], head[9:])):
            async with await Wire.open(served) as wire:
                await wire.send(*pieces)
                answer = await wire.answer()
                assert answer.status == 400
                if line != "GET /health":
                    assert json.loads(answer.body)["error"]["code"] == "bad_request"
    assert published(hub, "c") == []


# -- by a clock moved by hand --------------------------------------------------------------------------------


class Hand:
    """A loop whose time is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, work: Callable[[], None]) -> Any:
        class Timer:
            at = self.now + seconds

            def when(self) -> float:
                return self.at

            def cancel(self) -> None:
                hand.timers.remove(self)

        hand, timer = self, Timer()
        timer.work = work  # type: ignore[attr-defined]
        self.timers.append(timer)
        return timer

    def call_soon(self, work: Callable[[], None]) -> None:
        work()

    def move_to(self, now: float) -> None:
        while due := [timer for timer in self.timers if timer.at <= now]:
            timer = min(due, key=lambda timer: timer.at)
            self.timers.remove(timer)
            self.now = timer.at
            timer.work()
        self.now = now


class Answering:
    def try_answer(
        self, front: FrontProtocol, method: bytes, target: bytes, facts: Facts, body: bytes
    ) -> bool:
        front.answer(b"x" * 1000)
        return True


def connection(hand: Hand, bounds: HttpBounds) -> tuple[FrontProtocol, FakeTransport]:
    config = uvicorn.Config(Hub().asgi(), log_config=None, access_log=False)
    front = front_protocol(Answering(), bounds)(config, ServerState(), {})
    transport = FakeTransport()
    transport.protocol, transport.is_stuck = front, True
    front.connection_made(transport)
    front._end()
    front.loop = hand  # type: ignore[assignment]
    front._set_deadline(bounds.times.head_s)
    return front, transport


async def test_a_slow_reader_lives_as_long_as_it_takes_anything() -> None:
    hand, bounds = Hand(), HttpBounds(HttpTimes(write_s=10))
    front, transport = connection(hand, bounds)
    front.data_received(get("/channels/c"))
    assert bounds.held_bytes == 1000
    for step in range(1, 100):
        transport.held -= 1
        hand.move_to(1000 + 9 * step)
        assert transport.closed_by is None
    transport.held -= 1
    hand.move_to(hand.now + 2)
    hand.move_to(hand.now + 7)
    assert transport.closed_by is None
    hand.move_to(hand.now + 6)
    assert transport.closed_by == "abort"


async def test_one_timer_serves_a_connection_however_many_requests_it_has() -> None:
    hand, bounds = Hand(), HttpBounds()
    front, transport = connection(hand, bounds)
    for _ in range(100):
        front.data_received(get("/channels/c"))
        transport.drain()
        assert len(hand.timers) == 1
        hand.move_to(hand.now + 1)
    hand.move_to(hand.now + 73)
    assert transport.closed_by is None
    hand.move_to(hand.now + 1)
    assert transport.closed_by == "close"
    assert hand.timers == []


async def test_over_the_bound_those_go_that_have_taken_nothing_for_longest() -> None:
    hand, bounds = Hand(), HttpBounds(max_held_bytes=3500)
    slow, slow_transport = connection(hand, bounds)
    others = [connection(hand, bounds) for _ in range(3)]
    slow.data_received(get("/channels/c"))
    for front, _ in others[:2]:
        front.data_received(get("/channels/c"))
    slow_transport.held -= 1  # it takes something
    assert bounds.held_bytes == 3000
    others[2][0].data_received(get("/channels/c"))
    assert [transport.closed_by for _, transport in others] == ["abort", None, None]
    assert slow_transport.closed_by is None
    assert bounds.held_bytes == 3000
    others[1][1].lose()
    assert bounds.held_bytes == 2000


async def test_bodies_that_no_application_has_read_are_bounded_together() -> None:
    """The loop reads from a thousand clients before one of their requests runs."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("not before the end of this turn")

    bounds, state = HttpBounds(max_held_bytes=100_000), ServerState()
    http_class: Any = type("Http", (HeartwireHttpProtocol,), {"bounds": bounds})
    config = uvicorn.Config(app, log_config=None, access_log=False)
    config.load()
    made: list[tuple[Any, FakeTransport]] = []
    for _ in range(3):
        protocol, transport = http_class(config, state, {}), FakeTransport()
        transport.protocol = protocol
        protocol.connection_made(transport)
        protocol.data_received(b"POST /channels/c HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n")
        protocol.data_received(b"x" * 40_000)
        made.append((protocol, transport))
    [(cut, _)] = [one for one in made if one[1].closed_by == "abort"]
    assert cut is not made[-1][0], "the one that just sent something"
    assert [len(protocol.cycle.body) for protocol, _ in made if protocol is not cut] == [40_000, 40_000]
    assert len(cut.cycle.body) == 0
    assert bounds.held_bytes == 80_000
    with pytest.raises(StopIteration):  # it need not wait
        made[-1][0].cycle.receive().send(None)
    assert bounds.held_bytes == 40_000
    for task in state.tasks:
        task.cancel()
    for _, transport in made:
        transport.lose()
    assert bounds.held_bytes == 0
