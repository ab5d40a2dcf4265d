"""Engine.IO v4 on both doors: the cases of the protocol's own suite, and the errors that it does not ask for."""

import asyncio
import json

import aiohttp
import pytest

import heartwire.socketio as socketio
from heartwire import Hub
from heartwire.dialects.socketio.engine_io import Parcel
from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.server.socketio import server as module
from tests.integration.socketio.conftest import Connect, until
from tests.integration.socketio.wire import Wire


class Echo:
    """A layer above that sends back what comes in."""

    def __init__(self, engine: EngineSession, port: object) -> None:
        self.engine = engine
        self.has_asked = True
        self.sockets: dict[str, object] = {}
        self.reasons: list[str] = []
        ENDED.append(self.reasons)

    def message(self, is_text: bool, data: bytes) -> None:
        self.engine.send(Parcel([(is_text, b"4" + data if is_text else data)]))

    def closed(self, reason: str) -> None:
        self.reasons.append(reason)


ENDED: list[list[str]] = []


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> socketio.AsyncServer:
    """Engine.IO alone."""
    monkeypatch.setattr(module, "ClientSession", Echo)
    ENDED.clear()
    return make()


def make(**options: object) -> socketio.AsyncServer:
    """A server with short times."""
    defaults = {"ping_interval": 0.3, "ping_timeout": 0.2, "connect_timeout": 1}
    return socketio.AsyncServer(Hub(), **(defaults | options))  # type: ignore[arg-type]


POLLING = "EIO=4&transport=polling"


async def test_handshake_by_poll_and_by_websocket(echo: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(echo) as wire:
        opened = await wire.ask("GET", POLLING)
        assert (opened.status, opened.body[0]) == (200, "0")
        told = json.loads(opened.body[1:])
        sid = told.pop("sid")
        assert isinstance(sid, str)
        times = {"pingInterval": 300, "pingTimeout": 200, "maxPayload": 1_000_000}
        assert told == {"upgrades": ["websocket"], **times}
        async with wire.socket() as socket:
            told = json.loads(str(await socket.next())[1:])
            assert told.pop("sid") != sid
            assert told == {"upgrades": [], **times}


@pytest.mark.parametrize(
    ("method", "query", "code"),
    [
        ("GET", "EIO=4", 0),
        ("GET", "EIO=4&transport=abc", 0),
        ("GET", f"{POLLING}&sid=nobody", 1),
        ("POST", POLLING, 2),
        ("PUT", POLLING, 2),
        ("DELETE", POLLING, 2),
        ("GET", "EIO=4&transport=websocket", 3),
        ("GET", "transport=polling", 5),
        ("GET", "EIO=3&transport=polling", 5),
        ("GET", "EIO=abc&transport=polling", 5),
    ],
)
async def test_errors_of_requests(
    echo: socketio.AsyncServer, connect: Connect, method: str, query: str, code: int
) -> None:
    async with connect(echo) as wire:
        answer = await wire.ask(method, query)
        assert (answer.status, answer.code) == (400, code)
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "query", ["transport=websocket", "EIO=abc&transport=websocket", "EIO=4", "EIO=4&transport=abc"]
)
async def test_refused_websockets_end(echo: socketio.AsyncServer, connect: Connect, query: str) -> None:
    async with connect(echo) as wire, wire.socket(query) as socket:
        assert await socket.next() is None


@pytest.mark.parametrize("payload", ["4hello", "4test1\x1e4test2\x1e4test3", "4hello\x1ebAQIDBA=="])
async def test_messages_by_polls(echo: socketio.AsyncServer, connect: Connect, payload: str) -> None:
    async with connect(echo) as wire:
        sid = await wire.open()
        posted = await wire.post(sid, payload)
        assert (posted.status, posted.body) == (200, "ok")
        polled = await wire.poll(sid)
        assert (polled.status, polled.body) == (200, payload)
        assert polled.headers["content-type"] == "text/plain; charset=UTF-8"
        assert polled.headers["cache-control"] == "no-store"


async def test_base64_with_lines(echo: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(echo) as wire:
        sid = await wire.open()
        assert (await wire.post(sid, "bAQID\n\x1ebBA==\r\n")).body == "ok"
        assert (await wire.poll(sid)).body == "bAQID\x1ebBA=="


async def test_messages_by_websocket(echo: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(echo) as wire, wire.opened() as socket:
        await socket.send("4hello", b"\1\2\3\4")
        assert [await socket.next(), await socket.next()] == ["4hello", b"\1\2\3\4"]


@pytest.mark.parametrize("body", ["abc", "", "4a\x1e", "2", "b!!!"])
async def test_a_payload_that_is_none_ends_the_session(
    echo: socketio.AsyncServer, connect: Connect, body: str
) -> None:
    async with connect(echo) as wire:
        sid = await wire.open()
        assert (await wire.post(sid, body)).status == 400
        assert (await wire.poll(sid)).code == 1
        assert ENDED == [["parse error"]]


async def test_a_message_that_is_none_ends_the_websocket(
    echo: socketio.AsyncServer, connect: Connect
) -> None:
    async with connect(echo) as wire, wire.opened() as socket:
        await socket.send("abc")
        assert await socket.next() is None
        assert ENDED == [["parse error"]]


async def test_a_second_poll_ends_the_session(echo: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(echo) as wire:
        sid = await wire.open()
        first = asyncio.ensure_future(wire.poll(sid))
        engine = echo._server.sessions[sid].engine
        await until(lambda: engine._poll is not None)
        assert (await wire.poll(sid)).status == 400
        held = await first
        assert (held.status, held.body) == (200, "1")
        assert (await wire.poll(sid)).code == 1


async def test_a_poll_that_is_broken_off_ends_the_session(
    echo: socketio.AsyncServer, connect: Connect
) -> None:
    async with connect(echo) as wire:
        sid = await wire.open()
        poll = asyncio.ensure_future(wire.poll(sid))
        engine = echo._server.sessions[sid].engine
        await until(lambda: engine._poll is not None)
        poll.cancel()
        await until(lambda: ENDED == [["transport close"]])
        assert (await wire.poll(sid)).code == 1


async def test_pings_by_polls(echo: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(echo) as wire:
        sid = await wire.open()
        for _ in range(3):
            assert (await wire.poll(sid)).body == "2"
            assert (await wire.post(sid, "3")).body == "ok"
        begun = asyncio.get_running_loop().time()
        await until(lambda: ENDED == [["ping timeout"]])
        assert asyncio.get_running_loop().time() - begun < 1
        assert (await wire.poll(sid)).code == 1


async def test_pings_by_websocket(echo: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(echo) as wire, wire.opened() as socket:
        for _ in range(3):
            assert await socket.next(pings=True) == "2"
            await socket.send("3")
        await socket.ends()
        assert ENDED == [["ping timeout"]]


async def test_the_client_closes_by_post(echo: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(echo) as wire:
        sid = await wire.open()
        engine = echo._server.sessions[sid].engine
        poll = asyncio.ensure_future(wire.poll(sid))
        await until(lambda: engine._poll is not None)
        assert (await wire.post(sid, "1")).body == "ok"
        assert (await poll).body == "6"
        assert (await wire.poll(sid)).code == 1

        sid = await wire.open()  # its poll comes later
        assert (await wire.post(sid, "1")).body == "ok"
        assert (await wire.poll(sid)).body == "6"
        assert (await wire.poll(sid)).code == 1
        assert ENDED == [["transport close"], ["transport close"]]


async def test_the_client_closes_by_websocket(echo: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(echo) as wire, wire.opened() as socket:
        await socket.send("1")
        assert await socket.next() is None
        assert ENDED == [["transport close"]]


async def test_the_server_closes_behind_what_it_has_sent(
    echo: socketio.AsyncServer, connect: Connect
) -> None:
    async with connect(echo) as wire:
        sid = await wire.open()
        await wire.post(sid, "4last")
        echo._server.sessions[sid].engine.close("forced close")
        assert (await wire.poll(sid)).body == "4last\x1e1"
        assert (await wire.poll(sid)).code == 1


async def test_upgrade(echo: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(echo) as wire:
        sid = await wire.open()
        async with wire.socket(f"EIO=4&transport=websocket&sid={sid}") as socket:
            await socket.send("2probe")
            assert await socket.next() == "3probe"
            assert (await wire.poll(sid)).body in ("6", "2")
            await wire.post(sid, "4waits")
            await socket.send("5", "4hello")
            assert [await socket.next(), await socket.next()] == ["4waits", "4hello"]
            after = await wire.poll(sid)
            assert (after.status, after.code) == (400, 3)
            assert (await wire.post(sid, "4x")).code == 3
            async with wire.socket(f"EIO=4&transport=websocket&sid={sid}") as second:
                assert await second.next() is None  # accepted, and closed
            await socket.send("4still here")
            assert await socket.next() == "4still here"


@pytest.mark.parametrize("words", [["4x"], ["5"], ["2probe", "4x"], ["2probe", "2probe"]])
async def test_a_failed_upgrade_leaves_the_polls(
    echo: socketio.AsyncServer, connect: Connect, words: list[str]
) -> None:
    async with connect(echo) as wire:
        sid = await wire.open()
        async with wire.socket(f"EIO=4&transport=websocket&sid={sid}") as socket:
            await socket.send(*words)
            await socket.ends()
        await wire.post(sid, "4hello")
        assert "4hello" in (await wire.poll(sid)).body.split("\x1e")


async def test_a_probe_that_says_nothing_is_ended(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ClientSession", Echo)
    async with connect(make(upgrade_timeout=0.05, ping_interval=25, ping_timeout=20)) as wire:
        sid = await wire.open()
        async with wire.socket(f"EIO=4&transport=websocket&sid={sid}") as socket:
            await socket.ends()
        await wire.post(sid, "4hello")
        assert (await wire.poll(sid)).body == "4hello"


async def test_a_body_that_is_too_large(connect: Connect) -> None:
    async with connect(make(max_http_buffer_size=1000)) as wire:
        sid = await wire.open()
        assert (await wire.post(sid, "4" + "x" * 1000)).status == 413
        async with wire.opened() as socket:
            await socket.send("4" + "x" * 1000)
            assert await socket.ends() in (1009, 4413, 1006), "said to be too large"


async def test_a_body_of_the_old_protocol(connect: Connect) -> None:
    async with connect(make()) as wire:
        sid = await wire.open()
        query = f"{POLLING}&sid={sid}"
        assert (await wire.ask("POST", query, b"4x", content_type="application/octet-stream")).code == 3
        assert (await wire.ask("PUT", query)).status == 400


async def test_transports_and_upgrades_that_are_off(connect: Connect) -> None:
    async with connect(make(transports=["polling"])) as wire:
        assert json.loads((await wire.ask("GET", POLLING)).body[1:])["upgrades"] == []
        async with wire.socket() as socket:
            assert await socket.next() is None
    async with connect(make(transports=["websocket"])) as wire:
        assert (await wire.ask("GET", POLLING)).code == 0


async def test_too_much_waits_for_a_poll(echo: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(echo) as wire:
        sid = await wire.open()
        for _ in range(2):
            await wire.post(sid, "4" + "x" * 600_000)
        await until(lambda: ENDED == [["transport error"]])
        assert (await wire.poll(sid)).code == 1


async def test_drain_ends_polls_and_sockets(echo: socketio.AsyncServer, connect: Connect) -> None:
    async with connect(echo) as wire, wire.opened() as socket:
        sid = await wire.open()
        engine = echo._server.sessions[sid].engine
        poll = asyncio.ensure_future(wire.poll(sid))
        await until(lambda: engine._poll is not None)
        echo.hub.drain()
        assert (await poll).body == "1"
        assert await socket.next() is None
        refused = await wire.ask("GET", POLLING)
        assert refused.status == 503


async def test_without_a_server_the_address_is_empty() -> None:
    from heartwire.testing.server import serving

    async with serving(Hub()) as url, aiohttp.ClientSession() as http:
        answer = await Wire(url, http).ask("GET", POLLING)
        assert answer.status == 404
        assert "AsyncServer" in answer.body
