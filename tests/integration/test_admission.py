"""Admission: `connects_per_s` paces a crowd, and each refused client gets a time to return. On real uvicorn,
under a clock that is moved by hand."""

import json
import re
from typing import Any

import pytest

from heartwire import Hub
from heartwire.hub.identity import ANONYMOUS
from heartwire.testing import FakeClock
from tests.unit.transports.tools import SERVERS, Answer, Served, Wire, frame, handshake, soon

pytestmark = pytest.mark.parametrize("kind", sorted(SERVERS))

CONNECT = b'{"id":1,"connect":{}}'


def one_a_second(**options: Any) -> tuple[Hub, FakeClock]:
    """A hub that lets two in at once, and then one a second."""
    hub = Hub(connects_per_s=1, connects_burst=2, **options)
    hub.node.clocks.monotonic = clock = FakeClock(1000)
    return hub, clock


async def ask(served: Served, method: str, path: str, body: bytes = b"", *lines: str) -> Wire:
    wire = await Wire.open(served)
    head = [f"{method} {path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}", *lines, "", ""]
    await wire.send("\r\n".join(head).encode() + body)
    return wire


async def socket(served: Served, path: str, *messages: bytes) -> tuple[int, bytes]:
    """Open a WebSocket; the opcode and payload of the first frame that comes."""
    wire = await Wire.open(served)
    await wire.send(handshake(path))
    assert (await soon(wire.answer())).status == 101
    for message in messages:
        await wire.send(frame(1, message))
    first = await soon(wire.next_frame())
    return first.opcode, first.payload


async def streamed(served: Served, path: str, mark: bytes) -> bytes:
    wire = await ask(served, "POST", path, CONNECT)
    return await soon(wire.until(mark))


async def event_stream(served: Served) -> bytes:
    wire = await ask(served, "GET", "/channels/a", b"", "Accept: text/event-stream")
    return await soon(wire.until(b"retry: ")) + await soon(wire.until(b"\n"))


def when(reason: str | bytes) -> int:
    """The milliseconds of a reason."""
    told = reason.decode() if isinstance(reason, bytes) else reason
    found = re.search(r"; retry_after_ms=(\d+)$", told)
    assert found is not None, told
    return int(found[1])


def closed(told: tuple[int, bytes]) -> int:
    """Closed with `too_many_connects`, and to come back when?"""
    opcode, payload = told
    assert (opcode, payload[:2]) == (8, (3100).to_bytes(2)), told
    return when(payload[2:])


async def test_centrifugal_websockets_come_in_turns(kind: str) -> None:
    """Each is told the turn after the last; who comes back then is let in."""
    hub, clock = one_a_second()
    path = "/connection/websocket"
    async with SERVERS[kind](hub) as served:
        for _ in range(2):
            assert (await socket(served, path, CONNECT))[0] == 1
        waits = [closed(await socket(served, path, CONNECT)) for _ in range(3)]
        assert waits == [2000, 3000, 4000]
        for _ in waits:
            clock.advance(1 if clock() > 1000 else 2)
            assert (await socket(served, path, CONNECT))[0] == 1


async def test_authentication_waits_for_admission(kind: str) -> None:
    hub, _ = one_a_second()
    asked: list[Any] = []

    @hub.authenticate
    async def who(request: Any) -> Any:
        asked.append(request)
        return ANONYMOUS

    async with SERVERS[kind](hub) as served:
        await socket(served, "/connection/websocket", CONNECT)
        await socket(served, "/channels/a?format=json")
        assert len(asked) == 2
        for path in ("/connection/websocket", "/channels/a"):
            closed(await socket(served, path, CONNECT))
        assert b"retry: " in await event_stream(served)
        assert len(asked) == 2


@pytest.mark.parametrize("path", ["/connection/http_stream", "/connection/sse"])
async def test_streams_are_refused_by_a_push(kind: str, path: str) -> None:
    hub, _ = one_a_second()
    async with SERVERS[kind](hub) as served:
        for _ in range(2):
            await streamed(served, path, b'"connect":{')
        told = await streamed(served, path, b"}}}\n")
        push = json.loads(told[told.index(b'{"push"') :])["push"]["disconnect"]
        assert (push["code"], when(push["reason"])) == (3100, 2000)


async def test_plain_websockets_come_in_turns(kind: str) -> None:
    hub, _ = one_a_second()
    async with SERVERS[kind](hub) as served:
        for _ in range(2):
            await socket(served, "/channels/a?format=json")
        assert closed(await socket(served, "/channels/a")) == 2000


async def test_event_source_reconnects_after_the_retry_it_is_sent(kind: str) -> None:
    """It gives up for good on any status but 200."""
    hub, _ = one_a_second()
    async with SERVERS[kind](hub) as served:
        for _ in range(2):
            assert b"heartwire" in await event_stream(served)
        told = await event_stream(served)
        assert b"200 OK" in told
        assert told.endswith(b"retry: 2000\n")


async def test_requests_are_not_counted(kind: str) -> None:
    hub, _ = one_a_second()
    async with SERVERS[kind](hub) as served:
        for method, path, body in [
            ("GET", "/channels/a", b""),
            ("POST", "/channels/a", b"1"),
            ("POST", "/connection/commands", CONNECT),
        ] * 3:
            answer: Answer = await soon((await ask(served, method, path, body)).answer())
            assert answer.status == 200
        assert (await socket(served, "/connection/websocket", CONNECT))[0] == 1


async def test_turns_can_be_switched_off(kind: str) -> None:
    hub = Hub(connects_per_s=0)
    hub.node.clocks.monotonic = FakeClock(1000)
    async with SERVERS[kind](hub) as served:
        for _ in range(20):
            assert (await socket(served, "/connection/websocket", CONNECT))[0] == 1
