"""Event streams that leave ASGI once their head is answered, and those that middleware keeps there."""

from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from heartwire import Hub
from heartwire.server.plain.formats import _SSE_RAW, chunked
from heartwire.transports.http.native_stream import NativeStream, chunk
from heartwire.transports.http.request import HeartwireHttpProtocol
from tests.unit.transports.tools import Served, Wire, at_rest, run, serve_asgi, serve_native, soon, until


def request(path: str, *, version: str = "1.1", more: str = "") -> bytes:
    lines = f"GET {path} HTTP/{version}\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{more}\r\n"
    return lines.encode()


async def opened(served: Served, path: str, **given: str) -> Wire:
    """A stream whose start has come."""
    wire = await Wire.open(served)
    await wire.send(request(path, **given))
    await soon(wire_has(wire, b"id: "))
    return wire


async def wire_has(wire: Wire, piece: bytes) -> None:
    while piece not in wire.buffer:
        assert await wire.more(), f"{piece!r} never came: {wire.buffer!r}"


def streams(served: Served) -> list[NativeStream]:
    return [one for one in served.server.server_state.connections if isinstance(one, NativeStream)]


def body(wire: Wire) -> bytes:
    """The body of a chunked answer so far."""
    whole, rest = b"", wire.buffer.partition(b"\r\n\r\n")[2]
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        whole += rest[:length]
        assert rest[length : length + 2] == b"\r\n"
        rest = rest[length + 2 :]
    return whole


def test_a_chunk_of_nothing_would_end_the_answer() -> None:
    assert chunk(b"") == b""
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


async def test_a_stream_leaves_asgi_and_says_the_same() -> None:
    hub = Hub()
    bodies = []
    for serve in (serve_native, serve_asgi):
        async with serve(hub) as served:
            wire = await opened(served, "/channels/a")
            assert len(streams(served)) == (serve is serve_native)
            assert len(served.server.server_state.tasks) == (serve is serve_asgi)
            for text in ("one", "two\nlines", ""):
                await hub.publish("a", text)
            await soon(wire_has(wire, b"data: \n\n"))
            said = body(wire)
            bodies.append([line for line in said.split(b"\n") if line.startswith(b"data")])
            wire.sock.close()
            await until(lambda: at_rest(hub))
    assert bodies == [[b"data: one", b"data: two", b"data: lines", b"data: "]] * 2


def test_publications_of_one_turn_are_one_chunk() -> None:
    frames = [b"id: 1\ndata: a\n\n", b"id: 2\ndata: b\n\n"]
    assert chunked(_SSE_RAW).join(frames, None) == chunk(b"".join(frames))  # type: ignore[arg-type]


async def test_a_stream_that_the_server_ends_is_complete() -> None:
    hub = Hub(stream_max_s=0.01, pong_timeout_s=0.1, ping_interval_s=1)
    async with serve_native(hub) as served:
        wire = await opened(served, "/channels/a")
        while not wire.is_ended:
            await soon(wire.more())
        assert wire.buffer.endswith(b"0\r\n\r\n")
        assert b"connection: close\r\n" in wire.buffer.partition(b"\r\n\r\n")[0]
        await until(lambda: at_rest(hub) and not streams(served))


async def test_a_drained_stream_leaves_nothing() -> None:
    hub = Hub()
    async with serve_native(hub) as served:
        wire = await opened(served, "/channels/a")
        hub.drain()
        while not wire.is_ended:
            await soon(wire.more())
        assert wire.buffer.endswith(b"0\r\n\r\n")
        await until(lambda: at_rest(hub))


@pytest.mark.parametrize(("given", "why"), [({"version": "1.0"}, "without chunks"), ({}, "")])
async def test_what_cannot_be_taken_over_stays(given: dict[str, str], why: str) -> None:
    hub = Hub()
    async with serve_native(hub) as served:
        wire = await opened(served, "/channels/a", **given)
        assert len(streams(served)) == (not why)
        await hub.publish("a", "x")
        await soon(wire_has(wire, b"data: x"))
        wire.sock.close()


async def _pass(request: Any, call_next: Callable[[Any], Any]) -> Any:
    response = await call_next(request)
    response.headers["x-seen"] = "yes"
    return response


@pytest.mark.parametrize(
    ("middleware", "is_native"),
    [(Middleware(BaseHTTPMiddleware, dispatch=_pass), False), (Middleware(GZipMiddleware), True)],
)
async def test_middleware_that_makes_its_own_messages_keeps_the_stream(
    middleware: Middleware, is_native: bool
) -> None:
    hub = Hub()
    app = Starlette(routes=[Mount("/rt", hub.asgi())], lifespan=hub.lifespan, middleware=[middleware])
    config = uvicorn.Config(app, http=HeartwireHttpProtocol, lifespan="on", log_config=None)
    async with run(config, hub=hub) as served:
        wire = await opened(served, "/rt/channels/a")
        assert len(streams(served)) == is_native
        assert (b"x-seen: yes" in wire.buffer) is not is_native
        await hub.publish("a", "x")
        await soon(wire_has(wire, b"data: x"))
        wire.sock.close()
        await until(lambda: at_rest(hub))


async def test_a_slow_reader_is_caught_up_and_misses_nothing() -> None:
    hub = Hub()
    async with serve_native(hub) as served:
        wire = await opened(served, "/channels/a")
        [stream] = streams(served)
        texts = [f"{number:06}" + "x" * 20_000 for number in range(300)]
        for text in texts:
            await hub.publish("a", text)
        await until(lambda: stream.paused)
        assert stream.backlog_bytes < 1_000_000
        await soon(wire_has(wire, texts[-1].encode()))
        data = [line[6:].decode() for line in body(wire).split(b"\n") if line.startswith(b"data: ")]
        assert data == texts
        wire.sock.close()


@pytest.mark.parametrize("behind", [b"", b"x" * 2000])
async def test_a_stream_with_a_request_behind_it_stays_where_it_is(behind: bytes) -> None:
    """The answer to the next request came in the middle of the stream."""
    hub = Hub()
    async with serve_native(hub) as served:
        wire = await Wire.open(served)
        padding = f"X-Padding: {behind.decode()}\r\n" if behind else ""
        poll = request("/channels/a?since=earliest", more=padding).replace(b"text/event-stream", b"*/*")
        await wire.send(request("/channels/a") + poll)
        await soon(wire_has(wire, b"id: "))
        assert streams(served) == []
        await hub.publish("a", "x")
        await soon(wire_has(wire, b"data: x"))
        assert wire.buffer.count(b"HTTP/1.1 ") == 1
        wire.sock.close()
