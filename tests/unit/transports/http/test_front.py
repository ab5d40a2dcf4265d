"""The front door answers as the ASGI application behind plain uvicorn does: one table of requests, the same
answers."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, NamedTuple

import pytest
import uvicorn
from uvicorn.server import ServerState

from heartwire import Hub
from heartwire.core.switchboard import ReadResult
from heartwire.transports.http import front as uvicorn_front
from heartwire.transports.http.connection import HttpBounds
from heartwire.transports.http.front import Facts, FrontProtocol, front_protocol
from heartwire.transports.http.phases import HttpTimes
from heartwire.types import NOW, Channel
from tests.unit.transports.fake_socket import FakeTransport
from tests.unit.transports.tools import (
    KEY,
    Answer,
    Served,
    Wire,
    at_rest,
    connected,
    handshake,
    published,
    serve_asgi,
    serve_native,
    single,
    splits,
    until,
    without_epochs,
)

LIMIT: Final = 1000
POSITION: Final = "<position>"
"""Stands for the position after them."""

KEPT: Final = ["one", "two", b"\x00\xff"]
"""What is in the channel ``a`` of every hub."""


class Exchange(NamedTuple):
    """What came of a request: the answers, whether the connection takes another, and what channels hold
    afterwards.

    ``continued``: how often the client was told to go on (100).
    """

    answers: list[Answer]
    continued: int
    lives: bool
    channels: dict[str, list[tuple[bool, bytes]]]


def get(target: str, *lines: str, version: str = "1.1", body: str = "") -> bytes:
    return request("GET", target, *lines, version=version, body=body)


def post(target: str, *lines: str, body: str = "hello") -> bytes:
    return request("POST", target, f"Content-Length: {len(body)}", *lines, body=body)


def request(method: str, target: str, *lines: str, version: str = "1.1", body: str = "") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: here", *lines, "", body]).encode(
        "latin-1"
    )


POLL: Final = get("/channels/a?since=earliest")
POST: Final = post("/channels/b", "Content-Type: text/plain")
CHUNKED: Final = "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n"

PLAIN: Final[dict[str, bytes]] = {
    "poll": POLL,
    "poll from now": get("/channels/a"),
    "poll of another channel": get("/channels/room:1"),
    "poll with a browser's headers": get(
        "/channels/a?since=earliest",
        "User-Agent: Mozilla/5.0",
        "Accept: */*",
        "Accept-Encoding: gzip, br",
        "Cookie: a=b",
        "Connection: keep-alive",
    ),
    "publish text": POST,
    "publish bytes": post("/channels/b", "Content-Type: application/octet-stream", body="\x00\xff"),
    "publish JSON": post("/channels/b", "Content-Type: application/json; charset=UTF-8", body='{"a":1}'),
    "publish of no type": post("/channels/b"),
}

TARGETS: Final = [
    f"/channels/a?since={POSITION}",
    f"/channels/a?since={POSITION}&wait=0.01",
    f"/channels/b?since={POSITION}",
    f"/channels/b?since={POSITION}&wait=9",
    "/channels/a?",
    "/channels/a?since=",
    "/channels/a?since",
    "/channels/a?since=earliest&wait=5",
    "/channels/a?wait=0&since=earliest",
    "/channels/a?wait=0.0",
    "/channels/a?since=nonsense",
    "/channels/a?since=abcdefgh.1",
    "/channels/a?since=abcdefgh.1&wait=9",
    "/channels/a?since=abcdefgh.01",
    "/channels/a?since=abcdefgh.1000000000000000000",
    "/channels/a?since=earliest&since=abcdefgh.1",
    "/channels/a?since=abcdefgh.1&since=earliest",
    "/channels/a?since=earl%69est",
    "/channels/a?since=earliest+",
    "/channels/a?since=-",
    "/channels/a?since=earliest&&",
    "/channels/a?&since=earliest",
    "/channels/a?since=earliest;wait=0",
    "/channels/a?since=ear=liest",
    "/channels/a?SINCE=earliest",
    "/channels/a?wait=nan&since=earliest",
    "/channels/a?wait=-1",
    "/channels/a?wait=56",
    "/channels/a?wait=1e1&since=earliest",
    "/channels/a?wait=1_0&since=earliest",
    "/channels/a?wait=inf",
    "/channels/a?wait=",
    "/channels/a?wait=x",
    "/channels/a?client=ann&since=earliest",
    "/channels/a?client=!&since=earliest",
    "/channels/a?last_event_id=earliest",
    "/channels/a?unknown=1&since=earliest",
    "/channels/a?since=earliest?",
    "/channels/a?since=earliest#fragment",
    "/channels/a#fragment",
    "/channels/a#fragment?since=earliest",
    "/channels/%61?since=earliest",
    "/channels/a%2Fb",
    "/channels/%E2%82%AC?since=earliest",
    "/channels/%e2%82%ac",
    "/channels/%E2%82",
    "/channels/%ff",
    "/channels/%00",
    "/channels/%0A",
    "/channels/%2C",
    "/channels/a,b",
    "/channels/%",
    "/channels/%zz",
    "/channels/%2561",
    "/channels/a+b",
    "/channels/a;b",
    "/channels/a=b&c",
    "/channels/a/",
    "/channels/a//",
    "/channels//a",
    "//channels/a",
    "/channels/a/b",
    "/channels/./a",
    "/channels/../channels/a",
    "/channels/a/presence",
    "/channels/..",
    "/channels/",
    "/channels",
    "/channels?channel=a&since=earliest",
    "/Channels/a",
    "/",
    "/health",
    "/nowhere",
    "/channels/" + "x" * 255,
    "/channels/" + "x" * 256,
    "/channels/" + "x" * 5000,
    "/channels/hidden:a",
    "/channels/\"quoted'<>",
    "/channels/{a}|\\^`~",
    "http://here/channels/a?since=earliest",
    "http://elsewhere:99/channels/a",
    "https://here/channels/a",
    "channels/a?since=earliest",
    "here:80",
    "*",
    "?since=earliest",
    "#",
]

LINES: Final = [
    "Connection: close",
    "Connection: Close, x",
    "Connection: keep-alive",
    "Connection: upgrade",
    "Host: elsewhere",
    "X-Twice: 1\r\nX-Twice: 2",
    "Accept: application/json\r\nAccept: text/html",
    "Accept: text/html,\r\n application/json",
    "Accept:text/html",
    "Accept:   text/html  ",
    "ACCEPT: text/html",
    "Folded: a\r\n\tb\r\n  c",
    "No colon",
    "Space : before the colon",
    ": no name",
    "Bad(name): x",
    "Empty:",
    "Zero: a\x00b",
    "Bell: a\x07b",
    "Delete: a\x7fb",
    "Latin: \xe9\xff",
    "Line feed: a\nb: c",
    "Return: a\rb",
    "Origin: http://here",
    "Origin: http://elsewhere",
    "Origin: null",
    "Origin: http://friend",
    "Origin:",
    'If-None-Match: "abcdefgh.1"',
    "If-None-Match: *",
    f'If-None-Match: "{POSITION}"',
    f'If-None-Match: W/"{POSITION}"',
    f"Last-Event-ID: {POSITION}",
    "Last-Event-ID: earliest",
    "Last-Event-ID: nonsense",
    "Upgrade: websocket",
    "Expect: 100-continue",
    "Content-Length: 0",
    "Transfer-Encoding: identity",
    "Trailer: x",
    "Authorization: Bearer x",
    "Cookie: " + "c" * 4000,
    "X-Long: " + "x" * 50_000,
    "\r\n".join(f"X-{number}: {number}" for number in range(500)),
]

ODD: Final[dict[str, bytes]] = {
    "HEAD": request("HEAD", "/channels/a"),
    "OPTIONS": request("OPTIONS", "/channels/a"),
    "PUT": request("PUT", "/channels/a", "Content-Length: 1", body="x"),
    "DELETE": request("DELETE", "/channels/a"),
    "TRACE": request("TRACE", "/channels/a"),
    "a method in small letters": request("get", "/channels/a"),
    "an unknown method": request("FETCH", "/channels/a"),
    "HTTP/1.0": get("/channels/a?since=earliest", version="1.0"),
    "HTTP/1.0 that wants to stay": get("/channels/a?since=earliest", "Connection: keep-alive", version="1.0"),
    "HTTP/1.2": get("/channels/a", version="1.2"),
    "HTTP/2.0": get("/channels/a", version="2.0"),
    "HTTP/0.9": b"GET /channels/a\r\n\r\n",
    "no host": b"GET /channels/a?since=earliest HTTP/1.1\r\n\r\n",
    "line feeds only": POLL.replace(b"\r\n", b"\n"),
    "a line feed after the request line": POLL.replace(b"\r\n", b"\n", 1),
    "a line feed before the end": b"GET /channels/a HTTP/1.1\r\nHost: here\n\r\n",
    "a line feed at the end": b"GET /channels/a HTTP/1.1\r\nHost: here\r\n\nX: \r\n\r\n",
    "returns only": POLL.replace(b"\r\n", b"\r"),
    "empty lines before": b"\r\n\r\n" + POLL,
    "a space before": b" " + POLL,
    "two spaces": POLL.replace(b" /", b"  /"),
    "a tab": POLL.replace(b" /", b"\t/"),
    "a space behind": POLL.replace(b"1.1\r\n", b"1.1 \r\n"),
    "zero in the target": POLL.replace(b"/a?", b"/a\x00?"),
    "a byte over ASCII in the target": POLL.replace(b"/a?", b"/\xe9?"),
    "a control in the target": POLL.replace(b"/a?", b"/\x07?"),
    "zeros": bytes(100),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a body that a GET has": get("/channels/a?since=earliest", "Content-Length: 5", body="hello"),
    "a chunked body that a GET has": get("/channels/a?since=earliest", "Transfer-Encoding: chunked", body=CHUNKED),
    "nothing new": get("/channels/a", f'If-None-Match: "{POSITION}"'),
    "nothing new, for a while": get("/channels/a?wait=0.01", f'If-None-Match: "{POSITION}"'),
    "a POST to nowhere": post("/nowhere"),
    "a POST with a query": post("/channels/b?since=earliest"),
    "a POST with a fragment": post("/channels/b#c"),
    "a POST to an encoded name": post("/channels/%62"),
    "a POST to several": post("/channels"),
    "a POST to nobody": post("/channels/"),
    "a POST to an unknown namespace": post("/channels/hidden:a"),
    "a POST where nobody may": post("/channels/news:a"),
    "a POST of a page": post("/channels/b", "Origin: http://friend"),
    "a POST of another's page": post("/channels/b", "Origin: http://elsewhere"),
    "a POST with a key": post("/channels/b", "Idempotency-Key: k1"),
    "a POST with a bad key": post("/channels/b", "Idempotency-Key: k 1"),
    "a POST that closes": post("/channels/b", "Connection: close"),
    "text that is not UTF-8": post("/channels/b", "Content-Type: text/plain", body="\xff"),
    "text of another charset": post("/channels/b", "Content-Type: text/plain; charset=latin-1"),
    "text of two types": post("/channels/b", "Content-Type: text/plain", "Content-Type: application/octet-stream"),
    "text of a folded type": post("/channels/b", "Content-Type: text/plain;\r\n charset=latin-1"),
    "nothing": post("/channels/b", body=""),
    "no length": request("POST", "/channels/b"),
    "the largest": post("/channels/b", body="x" * LIMIT),
    "too large": post("/channels/b", body="x" * (LIMIT + 1)),
    "far too large": post("/channels/b", body="x" * 200_000),
    "far too large, chunked": request(
        "POST", "/channels/b", "Transfer-Encoding: chunked", body="5000\r\n" + "x" * 0x5000 + "\r\n0\r\n\r\n"
    ),
    "chunked": request("POST", "/channels/b", "Transfer-Encoding: chunked", body=CHUNKED),
    "chunked, in other words": request("POST", "/channels/b", "transfer-encoding: Chunked", body=CHUNKED),
    "chunked with a trailer": request("POST", "/channels/b", "Transfer-Encoding: chunked", body=CHUNKED[:-2] + "X: y\r\n\r\n"),
    "expects to continue": post("/channels/b", "Expect: 100-continue"),
    "expects something else": post("/channels/b", "Expect: the unexpected"),
}  # fmt: skip

SMUGGLED: Final = "GET /channels/a?since=earliest HTTP/1.1\r\nHost: here\r\n\r\n"
"""What an attacker would like to be a request of its own."""

LENGTHS: Final[dict[str, tuple[str, str]]] = {
    "two equal lengths": ("Content-Length: 5\r\nContent-Length: 5", "hello"),
    "two lengths": ("Content-Length: 5\r\nContent-Length: 6", "hello!"),
    "two lengths, the first of them zero": ("Content-Length: 0\r\nContent-Length: 56", SMUGGLED),
    "lengths in a list": ("Content-Length: 5, 5", "hello"),
    "a signed length": ("Content-Length: +5", "hello"),
    "a negative length": ("Content-Length: -5", "hello"),
    "a hexadecimal length": ("Content-Length: 0x5", "hello"),
    "a broken length": ("Content-Length: five", "hello"),
    "an empty length": ("Content-Length:", "hello"),
    "a length with spaces": ("Content-Length:  5 ", "hello"),
    "a length with a space inside": ("Content-Length: 5 6", "hello"),
    "a length with zeros": ("Content-Length: 0005", "hello"),
    "a length over 64 bits": ("Content-Length: 99999999999999999999", "hello"),
    "a length in other digits": ("Content-Length: \xb2", "hello"),
    "a length with a space before the colon": ("Content-Length : 5", "hello"),
    "a folded length": ("Content-Length:\r\n 5", "hello"),
    "a length behind a line feed": ("X: y\nContent-Length: 5", "hello"),
    "length and chunks": ("Content-Length: 5\r\nTransfer-Encoding: chunked", CHUNKED),
    "chunks and length": (f"Transfer-Encoding: chunked\r\nContent-Length: {len(CHUNKED)}", CHUNKED),
    "length and chunks and a request": (
        "Content-Length: 61\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n" + SMUGGLED,
    ),
    "chunks twice": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKED),
    "chunks, then not": ("Transfer-Encoding: chunked, identity", CHUNKED),
    "not, then chunks": ("Transfer-Encoding: identity, chunked", CHUNKED),
    "almost chunks": ("Transfer-Encoding: xchunked", CHUNKED),
    "chunks in a strange place": ("Transfer-Encoding:\x0bchunked", CHUNKED),
    "chunks with a space before the colon": ("Transfer-Encoding : chunked", CHUNKED),
    "folded chunks": ("Transfer-Encoding:\r\n chunked", CHUNKED),
    "broken chunks": ("Transfer-Encoding: chunked", "xyz\r\nhello\r\n0\r\n\r\n"),
    "chunks with line feeds": ("Transfer-Encoding: chunked", CHUNKED.replace("\r\n", "\n")),
    "a chunk that is longer than it says": ("Transfer-Encoding: chunked", "2\r\nhello\r\n0\r\n\r\n"),
    "a chunk over 64 bits": ("Transfer-Encoding: chunked", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    "a body that is longer than it says": ("Content-Length: 5", "hello" + SMUGGLED),
}

PIPELINES: Final[dict[str, bytes]] = {
    "two polls": POLL + get("/channels/a"),
    "poll, publish, poll": POLL + post("/channels/a", "Content-Type: text/plain") + POLL,
    "two publishes": POST + post("/channels/b", body="again"),
    "publish and poll": POST + get("/channels/b?since=earliest"),
    "five polls": POLL * 5,
    "a poll that closes, and another": get("/channels/a", "Connection: close") + POLL,
    "a poll, and one that is bad": POLL + get("/channels/a?since=nonsense") + POLL,
    "a poll, and empty lines": POLL + b"\r\n\r\n" + POLL,
    "a poll, and chunks": (
        POLL + request("POST", "/channels/b", "Transfer-Encoding: chunked", body=CHUNKED) + POLL
    ),
}


def table() -> Iterator[tuple[str, bytes]]:
    yield from PLAIN.items()
    for target in TARGETS:
        yield f"target {target[:60]}", get(target)
    for line in LINES:
        yield f"poll with {line[:40]!r}", get("/channels/a?since=earliest", line)
        yield f"publish with {line[:40]!r}", post("/channels/b", line)
    yield from ODD.items()
    for name, (lines, body) in LENGTHS.items():
        yield name, request("POST", "/channels/b", lines, body=body)
        yield f"{name}, in a poll", request("GET", "/channels/a?since=earliest", lines, body=body)
    yield from PIPELINES.items()


REQUESTS: Final = dict(table())


@contextlib.asynccontextmanager
async def hub_and_server(kind: str) -> AsyncIterator[tuple[Hub, Served]]:
    hub = Hub(max_message_bytes=LIMIT, allowed_origins=["http://friend"], allow_unknown_namespaces=False)
    hub.namespace("room")
    hub.namespace("news", publish=False)
    async with serve_native(hub, demo=False) if kind == "front" else serve_asgi(hub) as served:
        for data in KEPT:
            await hub.publish("a", data)
        yield hub, served


async def exchange(served: Served, hub: Hub, pieces: tuple[bytes, ...], *, before: bytes = b"") -> Exchange:
    """Send a request, and read until the server has closed, or has answered another request behind it.
    ``before``: a request that is answered first."""
    answers: list[Answer] = []
    lives = False
    probe = get("/probe")
    result: Any = hub.node.history.read(Channel("a"), NOW, limit=0, max_bytes=1)
    position = str(result.head).encode()
    async with await Wire.open(served) as wire:
        if before:
            await wire.send(before)
            assert (await wire.answer()).status == 200
        await wire.send(*(piece.replace(POSITION.encode(), position) for piece in pieces))
        await wire.send(probe)
        while not lives:
            try:
                answer = await wire.answer(
                    has_body=not pieces[0].startswith(b"HEAD"[: len(pieces[0])]) or bool(answers)
                )
            except AssertionError:
                assert wire.is_ended
                break
            lives = b"/probe" in answer.body
            if not lives:
                answers.append(_comparable(answer))
    return Exchange(answers, wire.continued, lives, {name: published(hub, name) for name in "abc"})


def _comparable(answer: Answer) -> Answer:
    if b"Invalid HTTP request" in answer.body:  # uvicorn has its own words for it, and ours are JSON
        return Answer(answer.status, (), b"not HTTP")
    left_out = ("date", "server")
    headers = sorted(
        (name, without_epochs(value.encode()).decode())
        for name, value in answer.headers
        if name not in left_out
    )
    return Answer(answer.status, tuple(headers), without_epochs(answer.body))


def feedings(name: str, data: bytes) -> Iterator[tuple[bytes, ...]]:
    yield (data,)
    if len(data) <= 400:
        yield tuple(single(data))
    if name in PLAIN:
        yield from splits(data)
    else:
        for at in {
            len(data) // 3,
            data.find(b"\r\n") + 1,
            data.find(b"\r\n\r\n") + 2,
            data.find(b"\r\n\r\n") + 4,
            len(data) - 1,
        }:
            if 0 < at < len(data):
                yield data[:at], data[at:]


@pytest.mark.parametrize("name", REQUESTS)
async def test_the_answers_are_those_of_the_application(name: str) -> None:
    data = REQUESTS[name]
    async with hub_and_server("front") as (quick_hub, quick), hub_and_server("asgi") as (slow_hub, slow):
        for pieces in feedings(name, data):
            assert await exchange(quick, quick_hub, pieces) == await exchange(slow, slow_hub, pieces), pieces


async def test_the_plain_requests_are_answered_by_the_front_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the table would compare one thing with itself."""
    left: list[bytes] = []
    monkeypatch.setattr(
        uvicorn_front.FrontProtocol, "_leave_to_uvicorn", lambda self, data: left.append(data)
    )
    async with hub_and_server("front") as (_, served), await Wire.open(served) as wire:
        for data in PLAIN.values():
            for _ in range(2):  # the second time it is known
                await wire.send(data)
                assert (await wire.answer()).status == 200
    assert left == []


# -- connections that come back ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REQUESTS)
async def test_behind_a_request_of_the_application_the_answers_are_the_same(name: str) -> None:
    data, before = REQUESTS[name], get("/health")
    async with hub_and_server("front") as (quick_hub, quick), hub_and_server("asgi") as (slow_hub, slow):
        for pieces in ((data,), (data[:20], data[20:])):
            got = await exchange(quick, quick_hub, pieces, before=before)
            assert got == await exchange(slow, slow_hub, pieces, before=before), pieces


async def test_a_connection_comes_back_from_the_application_with_the_next_plain_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A handshake of Socket.IO was once enough for all polls behind it to cost ten times as much."""
    left: list[bytes] = []
    leave = uvicorn_front.FrontProtocol._leave_to_uvicorn

    def noted(front: FrontProtocol, data: bytes) -> None:
        left.append(data)
        leave(front, data)

    monkeypatch.setattr(uvicorn_front.FrontProtocol, "_leave_to_uvicorn", noted)
    other = get("/health")
    async with hub_and_server("front") as (_, served), await Wire.open(served) as wire:
        for data in (other, other, *PLAIN.values(), other, POLL, POST):
            await wire.send(data)
            assert (await wire.answer()).status == 200
        [protocol] = served.server.server_state.connections
        assert isinstance(protocol, FrontProtocol)
        await wire.send(handshake("/channels/a"))
        assert (await wire.answer()).status == 101
        assert protocol not in served.server.server_state.connections
    assert left == [other, other], "the second one of the first pair was not left again"


@pytest.mark.parametrize("how", ["end", "drain"])
async def test_a_poll_held_behind_a_request_of_the_application(how: str) -> None:
    async with hub_and_server("front") as (hub, served), await Wire.open(served) as wire:
        await wire.send(get("/health"))
        assert (await wire.answer()).status == 200
        await wire.send(get("/channels/c?wait=50"))
        await until(lambda: len(hub.node.connections) == 1, "the poll is held")
        if how == "drain":
            hub.drain()
            assert (await wire.answer()).status == 200
        else:
            wire.sock.close()
        await until(lambda: at_rest(hub), "nothing is left")


async def test_a_connection_that_came_back_is_closed_when_it_is_idle() -> None:
    async with hub_and_server("front") as (_, served), await Wire.open(served) as wire:
        for data in (get("/health"), POLL):
            await wire.send(data)
            assert (await wire.answer()).status == 200
        [protocol] = served.server.server_state.connections
        assert isinstance(protocol, FrontProtocol)
        protocol._set_deadline(0)
        await until(lambda: protocol not in served.server.server_state.connections, "it is closed")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("version", [None, "8"])
async def test_a_bad_handshake_is_answered_by_the_application(method: str, version: str | None) -> None:
    """Not as plain uvicorn does: `websockets` says it in its own words, and to a POST nothing at all."""
    lines = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}"]
    lines += [f"Sec-WebSocket-Version: {version}"] if version else []
    data = request(method, "/channels/b", *lines, "Content-Length: 2", body="hi")
    async with hub_and_server("front") as (hub, served):
        for pieces in ((data,), tuple(single(data))):
            got = await exchange(served, hub, pieces)
            assert [answer.status for answer in got.answers] == [426 if method == "GET" else 400]
            assert got.answers[0].header("connection") == "close"
            assert not got.lives
            assert got.channels["b"] == []


async def test_a_handshake_is_a_get() -> None:
    """RFC 6455 4.2.1. It was once taken with any method."""
    lines = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    async with hub_and_server("front") as (hub, served):
        for data in (
            request("POST", "/channels/b", *lines),
            request("POST", "/channels/b", *lines, "Content-Length: 2", body="hi"),
            request("PUT", "/channels/b", *lines),
            request("GET", "/channels/b", *lines, version="1.0"),
        ):
            for pieces in ((data,), tuple(single(data))):
                got = await exchange(served, hub, pieces)
                assert [answer.status for answer in got.answers] == [400], data
        assert not hub.node.connections


# -- held polls ----------------------------------------------------------------------------------------------


async def held(hub: Hub, served: Served, target: str = "/channels/c?wait=50") -> Wire:
    """A poll that waits."""
    before = len(hub.node.connections)
    wire = await Wire.open(served)
    await wire.send(get(target))
    await until(lambda: len(hub.node.connections) == before + 1, "the poll is held")
    return wire


@pytest.mark.parametrize("publications", [["x"], ["x", b"\x00"], [{"a": 1}]])
async def test_a_held_poll_is_answered_as_the_application_answers_it(publications: list[object]) -> None:
    answers = []
    for kind in ("front", "asgi"):
        async with hub_and_server(kind) as (hub, served), await held(hub, served) as wire:
            async with asyncio.TaskGroup() as group:  # so that they come in one turn of the loop
                for data in publications:
                    group.create_task(hub.publish("c", data))
            answers.append(_comparable(await wire.answer()))
            assert at_rest(hub)
            await wire.send(get("/health"))
            assert (await wire.answer()).status == 200
    assert answers[0] == answers[1]
    assert len(json.loads(answers[0].body)["publications"]) == len(publications)


async def test_a_poll_that_waits_in_vain_is_answered_as_the_application_answers_it() -> None:
    answers = []
    for kind in ("front", "asgi"):
        async with (
            hub_and_server(kind) as (hub, served),
            await held(hub, served, "/channels/c?wait=0.05") as wire,
        ):
            answers.append(_comparable(await wire.answer()))
            assert at_rest(hub)
    assert answers[0] == answers[1]
    assert answers[0].body == b'{"publications":[],"position":"EPOCH.0","recovered":true}'


@pytest.mark.parametrize("kind", ["front", "asgi"])
async def test_draining_answers_held_polls_with_the_position_they_had(kind: str) -> None:
    async with hub_and_server(kind) as (hub, served):
        wires = [await held(hub, served, f"/channels/{name}?wait=50") for name in ("a", "c", "c")]
        hub.drain()
        answers = [_comparable(await wire.answer()) for wire in wires]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert [json.loads(answer.body)["position"] for answer in answers] == [
            "EPOCH.3",
            "EPOCH.0",
            "EPOCH.0",
        ]
        assert at_rest(hub)
        for wire in wires:
            await wire.send(POLL)
            answer = await wire.answer()
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (503, "shutdown")
            wire.sock.close()


@pytest.mark.parametrize("kind", ["front", "asgi"])
@pytest.mark.parametrize("how", ["end", "reset", "half"])
async def test_a_client_that_goes_while_its_poll_is_held_leaves_nothing_behind(kind: str, how: str) -> None:
    async with hub_and_server(kind) as (hub, served):
        wires = [await held(hub, served) for _ in range(5)]
        assert len(hub.node.connections) == 5
        for wire in wires:
            if how == "end":
                wire.sock.close()
            elif how == "reset":
                wire.reset()
            else:
                wire.sock.shutdown(socket.SHUT_WR)
        await until(lambda: at_rest(hub), "they are gone")
        await until(lambda: served.open_connections == 0)
        await hub.publish("c", "nobody")
        for wire in wires if how == "half" else []:
            # Behind the front it is answered: it may be there still.
            assert (await wire.rest()).startswith(b"HTTP/1.1 200 OK") == (kind == "front")
            wire.sock.close()


async def test_a_poll_that_finds_news_when_it_begins_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that takes its time answers with what was; what came meanwhile is in memory, and answers the
    poll at once."""
    hub = Hub()
    async with (
        serve_native(hub) as served,
        await connected(served, "/channels/a") as follower,
        await Wire.open(served) as wire,
    ):
        before = await hub.publish("a", "old")
        await follower.next_frame()
        slow: asyncio.Future[ReadResult] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(hub.node.history, "read", lambda *_, **__: slow)
        await wire.send(get("/channels/a?wait=50"))
        await hub.publish("a", "news")
        await follower.next_frame()
        slow.set_result(ReadResult(before, [], before, True))
        answer = await wire.answer()
        assert [publication["data"] for publication in json.loads(answer.body)["publications"]] == ["news"]
        assert len(hub.node.connections) == 1
        assert len(hub.node.connections) == 1
        [topic] = hub.node.switchboard.topics.values()
        assert len(topic.subscriptions) == 1


async def test_an_event_stream_is_not_a_poll() -> None:
    async with hub_and_server("front") as (hub, served), await Wire.open(served) as wire:
        await wire.send(get("/channels/a?since=earliest", "Accept: text/event-stream"))
        head = await wire.until(b"\r\n\r\n")
        assert b"content-type: text/event-stream" in head
        await wire.until(b"data: two\n")
        wire.sock.close()
        await until(lambda: at_rest(hub))


@pytest.mark.parametrize("kind", ["front", "asgi"])
async def test_requests_behind_a_held_poll_wait_for_their_turn(kind: str) -> None:
    async with hub_and_server(kind) as (hub, served), await held(hub, served) as wire:
        wire.sock.send(post("/channels/b", "Content-Type: text/plain") + get("/channels/b?since=earliest"))
        for _ in range(50):
            await asyncio.sleep(0)
        assert published(hub, "b") == []
        await hub.publish("c", "now")
        answers = [await wire.answer() for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert b'"data":"now"' in answers[0].body
        assert b'"data":"hello"' in answers[2].body
        assert at_rest(hub)


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_client_that_goes_with_requests_behind_a_held_poll(how: str) -> None:
    """What is behind is not begun for a connection that is gone: uvicorn would wait for ever for such a
    one."""
    async with hub_and_server("front") as (hub, served):
        wire = await held(hub, served)
        await wire.send(request("POST", "/channels/b", "Transfer-Encoding: chunked"))
        if how == "end":
            wire.sock.close()
        else:
            wire.reset()
        await hub.publish("c", "now")
        await until(lambda: at_rest(hub))
        await until(lambda: served.open_connections == 0)


async def test_a_client_that_takes_no_answers_is_not_read_from() -> None:
    """Each request it sends once made the server hold another answer, without a bound."""
    hub = Hub()
    async with serve_native(hub) as served, await Wire.open(served) as wire:
        await hub.publish("big", "x" * 500_000)
        data = get("/channels/big?since=earliest")
        await wire.send(data)
        sent, transport = 1, wire.transport
        assert transport is not None
        while transport.is_reading():
            assert sent < 100, "it never stops"
            sent += _send(wire, data)
            for _ in range(20):
                await asyncio.sleep(0)
        for _ in range(20):
            sent += _send(wire, data)
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() < 1_500_000
        for _ in range(sent):
            answer = await wire.answer()
            assert answer.status == 200
            assert b"x" * 500_000 in answer.body


def _send(wire: Wire, data: bytes) -> int:
    try:
        return wire.sock.send(data) // len(data)
    except BlockingIOError:
        return 0


# -- on a transport that takes notes -------------------------------------------------------------------------


class NotingDoor:
    """Takes every request; what it is to answer is decided by the test."""

    def __init__(self) -> None:
        self.taken: list[tuple[bytes, bytes]] = []
        self.gone_count = self.timed_out = 0

    def try_answer(
        self, front: FrontProtocol, method: bytes, target: bytes, facts: Facts, body: bytes
    ) -> bool:
        self.taken.append((target, body))
        if target == b"/now":
            front.answer(b"<%d>" % len(self.taken))
        elif target == b"/later":
            front.wait(self, 1000)
        else:
            return False
        return True

    def gone(self, front: Any) -> None:
        self.gone_count += 1

    def time_out(self, front: Any) -> None:
        self.timed_out += 1


def at_the_door(bounds: HttpBounds | None = None) -> tuple[NotingDoor, FrontProtocol, FakeTransport]:
    door = NotingDoor()
    config = uvicorn.Config(Hub().asgi(), log_config=None, access_log=False)
    front = front_protocol(door, bounds or HttpBounds())(config, ServerState(), {})
    transport = FakeTransport()
    transport.protocol = front
    front.connection_made(transport)
    transport.high = 64 * 1024  # its socket takes that much
    return door, front, transport


async def test_pipelined_requests_come_after_the_one_before_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[bytes] = []
    monkeypatch.setattr(
        uvicorn_front.FrontProtocol, "_leave_to_uvicorn", lambda self, data: left.append(data)
    )
    door, front, transport = at_the_door()
    front.data_received(get("/later"))
    front.data_received(get("/now"))
    assert transport.is_reading_paused
    front.answer(b"<held>")
    assert len(door.taken) == 1, "in a turn of its own"
    front.data_received(get("/later"))  # over TLS it was decrypted before, and must not overtake what waits
    await until(lambda: not transport.is_reading_paused)
    assert left == [get("/now") + get("/later")], "uvicorn takes two at a time"
    assert transport.written == b"<held>"
    transport.lose()


async def test_a_full_connection_takes_no_requests() -> None:
    _, front, transport = at_the_door()
    transport.high, transport.is_stuck = 2, True
    front.data_received(get("/now"))
    assert transport.written == b"<1>"
    front.data_received(get("/now"))
    assert transport.is_reading_paused
    assert transport.written == b"<1>"
    transport.drain()
    await until(lambda: transport.written == b"<1><2>")
    assert not transport.is_reading_paused
    transport.lose()


async def test_a_connection_that_is_silent_is_closed_and_one_that_takes_nothing_is_cut_off() -> None:
    bounds = HttpBounds(HttpTimes(idle_s=0.001, write_s=0.001))
    _, front, transport = at_the_door(bounds)
    front.data_received(get("/now"))
    transport.held = 0
    await until(lambda: transport.closed_by == "close")
    _, front, transport = at_the_door(bounds)
    transport.high, transport.is_stuck = 2, True
    front.data_received(get("/now"))
    await until(lambda: transport.closed_by == "abort")


async def test_when_the_server_stops_a_request_is_still_answered_and_is_the_last() -> None:
    door, front, transport = at_the_door()
    front.data_received(get("/later"))
    front.data_received(get("/now"))
    front.shutdown()
    assert transport.closed_by is None
    front.answer(b"<last>")
    assert transport.closed_by == "close"
    await asyncio.sleep(0)
    assert transport.written == b"<last>"
    assert len(door.taken) == 1
    _, front, transport = at_the_door()
    front.data_received(get("/now"))
    front.shutdown()
    assert transport.closed_by == "close"


async def test_an_answer_for_a_client_that_is_gone_is_dropped() -> None:
    door, front, transport = at_the_door()
    front.data_received(get("/later"))
    transport.lose()
    assert door.gone_count == 1
    front.answer(b"<late>")
    assert transport.written == b""
    assert front._timer is None or front._timer.cancelled()


async def test_a_request_that_waits_is_timed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    door, front, transport = at_the_door()
    front.data_received(get("/later"))
    front.wait(door, 0.001)
    await until(lambda: door.timed_out == 1)
    assert transport.closed_by is None
    transport.lose()


async def test_what_is_remembered_of_requests_is_bounded() -> None:
    hub = Hub()
    async with serve_native(hub) as served, await Wire.open(served) as wire:
        for number in range(600):
            await wire.send(get("/channels/a", f"X-Number: {number}", "X: " + "x" * 1900))
            assert (await wire.answer()).status == 200
        for line in ("X: " + "x" * 3000, "Last-Event-ID: earliest", 'If-None-Match: "abcdefgh.1"'):
            await wire.send(get("/channels/a", line))
            assert (await wire.answer()).status == 200
        async with await Wire.open(served) as other:
            await other.send(post("/channels/a", "Idempotency-Key: k1"))
            assert (await other.answer()).status == 200
        async with await connected(served, "/channels/a"):
            pass
        for cache in (uvicorn_front._remembered, uvicorn_front._requests, uvicorn_front._handshakes):
            assert 0 < sum(map(len, cache)) < uvicorn_front._REMEMBERED_BYTES
            assert max(map(len, cache)) <= 2048
        for head in uvicorn_front._handshakes:
            assert b"sec-websocket-key:\r\n" in head.lower(), "without the key, which never comes again"
        for name in (b"sec-websocket-key", b"idempotency-key", b"last-event-id", b"if-none-match"):
            assert not any(name in block.lower() for block in uvicorn_front._remembered), (
                "it never comes again"
            )


ENDLESS: Final = {
    "lines": ("", b"X-Line: " + b"x" * 5000 + b"\r\n"),
    "a line": ("X-Line: ", b"x" * 5000),
    "a name": ("X-", b"x" * 5000),
    "lines behind a body": (
        "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
        b"X-Line: " + b"x" * 5000 + b"\r\n",
    ),
    "a line behind a body": ("Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Line: ", b"x" * 5000),
    "a chunk's extension": ("Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 5000),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_header_lines_that_never_end_do_not_fill_the_memory(name: str) -> None:
    """uvicorn reads on for ever, where it runs on httptools."""
    begin, more = ENDLESS[name]
    async with hub_and_server("front") as (hub, served), await Wire.open(served) as wire:
        await wire.send(b"POST /channels/b HTTP/1.1\r\nHost: here\r\n" + begin.encode())
        sent = 0
        while not wire.is_closing and sent < 1_000_000:
            await wire.send(more)
            sent += len(more)
        assert 60_000 < sent < 80_000
        head = (await wire.rest()).partition(b"\r\n")[0]
        assert head in (b"HTTP/1.1 400 Refused", b"")
        await until(lambda: served.open_connections == 0)
        assert published(hub, "b") == []


async def test_a_long_header_and_a_long_body_are_fine() -> None:
    async with hub_and_server("front") as (hub, served), await Wire.open(served) as wire:
        for _ in range(3):
            data = post("/channels/b", "X-Long: " + "x" * 40_000, "Y: " + "y" * 20_000, body="x" * 1000)
            await wire.send(*(data[at : at + 999] for at in range(0, len(data), 999)))
            assert (await wire.answer()).status == 200
        chunks = "".join("1;ext\r\nx\r\n" for _ in range(1000)) + "0\r\nX: y\r\n\r\n"
        data = request("POST", "/channels/b", "Transfer-Encoding: chunked", body=chunks)
        for _ in range(20):
            await wire.send(data)
            assert (await wire.answer()).status == 200
        assert [len(data) for _, data in published(hub, "b")] == [1000] * 23
