"""The doors in other people's programs: beside their own routes, over TLS, IPv6 and Unix sockets, on both
event loops."""

import asyncio
import contextlib
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate

from heartwire import Forbidden, Hub, Identity, Unauthorized
from heartwire.transports.http import front as uvicorn_front
from heartwire.transports.http.request import HeartwireHttpProtocol
from heartwire.transports.websocket.native import NativeSocket
from tests.unit.transports.tools import (
    TEXT,
    Frame,
    Served,
    Wire,
    at_rest,
    close_frame,
    connected,
    frame,
    handshake,
    listening,
    published,
    run,
    serve_native,
    soon,
    until,
)

HTTP = {"httptools": "httptools", "h11": "h11", "heartwire": HeartwireHttpProtocol}


def app_with(hub: Hub, prefix: str) -> Starlette:
    """Somebody's application, with WebSockets of its own."""

    async def shout(socket: WebSocket) -> None:
        await socket.accept(subprotocol="loud" if "loud" in socket.scope["subprotocols"] else None)
        async for text in socket.iter_text():
            await socket.send_text(text.upper())

    async def refuse(socket: WebSocket) -> None:
        await socket.close()

    async def page(request: Any) -> PlainTextResponse:
        return PlainTextResponse("page")

    own = [
        Route("/page", page),
        WebSocketRoute("/shout", shout),
        WebSocketRoute("/refuse", refuse),
        WebSocketRoute("/channels/shout", shout),
        WebSocketRoute("/realtimes/channels/a", shout),
        Mount(prefix, hub.asgi()),
    ]
    return Starlette(routes=own, lifespan=hub.lifespan)


@contextlib.asynccontextmanager
async def embedded(
    hub: Hub, *, http: Any = "httptools", native: bool = True, prefix: str = "/realtime"
) -> AsyncIterator[Served]:
    ws: Any = hub.websocket_class(prefix) if native else "websockets-sansio"
    config = uvicorn.Config(app_with(hub, prefix), http=http, ws=ws, lifespan="on", log_config=None)
    async with run(config, hub=hub) as served:
        yield served


@pytest.fixture
def natives(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the WebSockets that came by the native door."""
    paths: list[str] = []
    accept = NativeSocket.accept

    def noting(self: NativeSocket, **given: Any) -> None:
        paths.append("open" if self._handler else "refused")
        accept(self, **given)

    monkeypatch.setattr(NativeSocket, "accept", noting)
    return paths


def ws(served: Served, path: str, **options: Any) -> Any:
    given = {"proxy": None, "compression": None, "ping_interval": None} | options
    return connect(served.url.replace("http", "ws") + path, **given)


async def closed(socket: ClientConnection) -> tuple[int, str]:
    """Read to the end; the code and reason of the close."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await soon(socket.recv())
    assert socket.close_code is not None
    return socket.close_code, socket.close_reason or ""


# -- beside an application's own routes ----------------------------------------------------------------------


@pytest.mark.parametrize("http", HTTP)
async def test_heartwires_paths_are_native_and_all_others_stay_with_the_application(
    http: str, natives: list[str]
) -> None:
    hub = Hub()
    async with embedded(hub, http=HTTP[http]) as served:
        async with ws(served, "/shout", subprotocols=["quiet", "loud"]) as own:
            assert own.subprotocol == "loud"
            await own.send("hi")
            assert await soon(own.recv()) == "HI"
        async with ws(served, "/channels/shout") as own, ws(served, "/realtimes/channels/a") as other:
            for socket in (own, other):
                await socket.send("hi")
                assert await soon(socket.recv()) == "HI"
        assert natives == []
        with pytest.raises(InvalidStatus) as refused:
            async with ws(served, "/refuse"):
                pass
        assert refused.value.response.status_code == 403
        async with (
            ws(served, "/realtime/channels/a") as socket,
            ws(served, "/realtime/") as lobby,
            ws(served, "/shout") as own,
        ):
            assert natives == ["open", "open"]
            await socket.send("hi")
            await lobby.send(b"\x00")
            await own.send("me too")
            assert await soon(socket.recv()) == "hi"
            assert await soon(lobby.recv()) == b"\x00"
            assert await soon(own.recv()) == "ME TOO"
        assert published(hub, "a") == [(True, b"hi")]
        async with await Wire.open(served) as wire:
            await wire.send(b"GET /page HTTP/1.1\r\nHost: here\r\n\r\n")
            assert (await wire.answer()).body == b"page"
            await wire.send(b"GET /realtime/channels/a?since=earliest HTTP/1.1\r\nHost: here\r\n\r\n")
            assert b'"data":"hi"' in (await wire.answer()).body


@pytest.mark.parametrize("http", HTTP)
async def test_what_is_not_there_or_not_a_handshake_is_refused(http: str, natives: list[str]) -> None:
    hub = Hub()
    async with embedded(hub, http=HTTP[http]) as served:
        async with ws(served, "/realtime/channels/a/presence") as socket:
            code, reason = await closed(socket)
            assert (code, reason) == (3508, "no WebSocket here: channels are at /channels/NAME")
        assert natives == ["refused"]
        for path, change, status in (
            ("/realtime/channels/a", (b"Version: 13", b"Version: 8"), 426),
            ("/realtime/channels/a", (b"Sec-WebSocket-Key: x3", b"Sec-WebSocket-Key: "), 400),
            ("/realtime/channels/a", (b"GET ", b"POST "), 400),
            ("/shout", (b"Sec-WebSocket-Key: x3", b"Sec-WebSocket-Key: "), 400),
        ):
            async with await Wire.open(served) as wire:
                await wire.send(handshake(path).replace(*change))
                answer = await wire.answer()
                assert answer.status == status, (path, change)
        assert len(hub.node.connections) == 0
        await until(lambda: served.open_connections == 0, "and uvicorn has forgotten them")


@pytest.mark.parametrize("native", [True, False])
async def test_a_hub_at_the_root_of_an_application(native: bool, natives: list[str]) -> None:
    hub = Hub()
    async with (
        embedded(hub, native=native, prefix="") as served,
        ws(served, "/channels/a") as socket,
        ws(served, "/shout") as own,
    ):
        await socket.send("hi")
        assert await soon(socket.recv()) == "hi"
        await own.send("hi")
        assert await soon(own.recv()) == "HI"
        assert natives == (["open"] if native else [])


async def test_an_application_that_ends_closes_its_sockets_with_shutdown() -> None:
    hub = Hub()
    async with contextlib.AsyncExitStack() as stack:
        async with embedded(hub) as served:
            wires = [
                await stack.enter_async_context(await connected(served, "/realtime/channels/a"))
                for _ in range(3)
            ]
        for wire in wires:
            told = await wire.next_frame()
            assert (told.opcode, told.payload[:2]) == (8, (1012).to_bytes(2))
            assert re.fullmatch(
                rb"shutdown: come back after a moment; retry_after_ms=\d", told.payload[2:]
            )  # three, at 500 a second
            assert await wire.rest() == b""


# -- who is this, and may they -------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False])
async def test_the_application_authenticates_and_permits(native: bool, natives: list[str]) -> None:
    hub = Hub()
    asked: list[tuple[str, str, str]] = []

    @hub.authenticate
    async def who(request: HTTPConnection) -> Identity | None:
        await asyncio.sleep(0)
        token = request.query_params.get("token") or request.cookies.get("token")
        if token == "boom":
            raise ZeroDivisionError
        if token != "good":
            raise Unauthorized("token is not known")
        asked.append((request.url.path, request.headers.get("x-client", ""), request.scope["type"]))
        return Identity("ann")

    @hub.namespace("room")
    async def may(identity: Identity, action: str, channel: str) -> bool:
        await asyncio.sleep(0)
        if channel == "room:secret":
            raise Forbidden("this room is secret")
        return action == "subscribe" or channel == f"room:{identity.user}"

    async with embedded(hub, native=native) as served:
        async with ws(
            served, "/realtime/channels/room:ann?token=good", additional_headers={"X-Client": "x"}
        ) as socket:
            for number in range(20):
                await socket.send(str(number))
            assert [await soon(socket.recv()) for _ in range(20)] == [str(number) for number in range(20)]
        assert asked == [("/realtime/channels/room:ann", "x", "websocket")]
        for path, code, reason in (
            ("room:ann", 3500, "token is not known"),
            ("room:ann?token=bad", 3500, "token is not known"),
            ("room:secret?token=good", 3507, "this room is secret"),
            ("other:a?token=good", 3507, "channel 'other:a': namespace 'other' is not configured"),
            ("a%7Fb?token=good", 3501, "channel 'a\\x7fb' holds"),
        ):
            async with ws(served, f"/realtime/channels/{path}") as socket:
                got = await closed(socket)
                assert got[0] == code, path
                assert got[1].startswith(reason)
        async with ws(
            served, "/realtime/channels/room:bob", additional_headers={"Cookie": "token=good"}
        ) as socket:
            await socket.send("not mine")
            assert (await closed(socket))[0] == 3507
        await until(lambda: at_rest(hub))
        assert published(hub, "room:bob") == []
        assert natives.count("open") == (2 if native else 0)


async def test_an_error_of_the_application_closes_with_internal(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()

    @hub.authenticate
    async def who(request: HTTPConnection) -> str:
        raise ZeroDivisionError

    async with embedded(hub) as served, ws(served, "/realtime/channels/a") as socket:
        assert (await closed(socket))[0] == 3004
        assert "ZeroDivisionError" in caplog.text
        await until(lambda: at_rest(hub))


@pytest.mark.parametrize("answer", ["ann", None, "refused"])
async def test_a_client_that_sends_before_it_is_let_in(answer: str | None) -> None:
    """Its messages are neither lost nor published before it is known who they are from; its own come back to
    it."""
    hub = Hub()
    gate = asyncio.Event()

    @hub.authenticate
    async def who(request: HTTPConnection) -> str | None:
        await gate.wait()
        if answer == "refused":
            raise Unauthorized("no")
        return answer

    async with serve_native(hub) as served, await Wire.open(served) as wire:
        await wire.send(handshake("/channels/a"))
        await wire.send(frame(TEXT, b"early") + frame(TEXT, b"bird")[:3])
        for _ in range(10):
            await asyncio.sleep(0)
        assert published(hub, "a") == []
        gate.set()
        assert (await wire.answer()).status == 101
        await wire.send(frame(TEXT, b"bird")[3:])
        if answer == "refused":
            assert (await wire.next_frame()).payload == (3500).to_bytes(2) + b"no"
            await wire.send(close_frame(3500))
            assert await wire.rest() == b""
            assert published(hub, "a") == []
        else:
            assert [await wire.next_frame() for _ in range(2)] == [
                Frame(TEXT, b"early"),
                Frame(TEXT, b"bird"),
            ]
            wire.sock.close()
        await until(lambda: at_rest(hub))
        assert not hub.node.connections


async def test_a_client_that_is_refused_for_what_it_sent_before_it_was_let_in() -> None:
    """Its session once began after its end, and stayed in the hub for ever."""
    hub = Hub(max_message_bytes=10)
    gate = asyncio.Event()

    @hub.authenticate
    async def who(request: HTTPConnection) -> None:
        await gate.wait()

    async with serve_native(hub) as served, await Wire.open(served) as wire:
        await wire.send(handshake("/channels/a"))
        await wire.send(frame(TEXT, b"x" * 11))
        gate.set()
        assert (await wire.answer()).status == 101
        assert (await wire.next_frame()).payload[:2] == (1009).to_bytes(2)
        assert await wire.rest() == b""
        wire.sock.close()
        await until(lambda: at_rest(hub))


async def test_a_client_that_goes_before_it_is_let_in() -> None:
    hub = Hub()
    gate = asyncio.Event()

    @hub.authenticate
    async def who(request: HTTPConnection) -> None:
        await gate.wait()

    async with serve_native(hub) as served:
        for reset in (True, False):
            wire = await Wire.open(served)
            await wire.send(handshake("/channels/a"))
            transport = wire.transport
            assert transport is not None
            if reset:
                wire.reset()
            else:
                wire.sock.close()
            await until(transport.is_closing)
        gate.set()
        for _ in range(10):
            await asyncio.sleep(0)
        assert at_rest(hub)


# -- compression ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offer", ["default", "client bits", "small window", "none"])
async def test_compression_with_a_real_client(offer: str) -> None:
    factories = {
        "default": ClientPerMessageDeflateFactory(),
        "client bits": ClientPerMessageDeflateFactory(client_max_window_bits=9),
        "small window": ClientPerMessageDeflateFactory(server_max_window_bits=10),
    }
    hub = Hub(compress=True)
    long, noise = "over and over " * 1000, bytes(range(256)) * 3
    async with serve_native(hub) as served:
        extensions = [factories[offer]] if offer in factories else []
        async with (
            ws(served, "/channels/a", extensions=extensions) as one,
            ws(served, "/channels/a") as plain,
        ):
            agreed = one.protocol.extensions
            assert [type(extension) for extension in agreed] == (
                [PerMessageDeflate] if offer in factories else []
            )
            for sender in (one, plain):
                for data in (long, noise, "", "short", long.encode()):
                    await sender.send(data)
                    assert [await soon(one.recv()), await soon(plain.recv())] == [data, data]
                await sender.send([long[:500], long[500:9000], long[9000:]])
                assert [await soon(one.recv()), await soon(plain.recv())] == [long, long]
        async with await connected(
            served,
            "/channels/b",
            "Sec-WebSocket-Extensions: permessage-deflate",
            "Sec-WebSocket-Extensions: x-other",
        ) as wire:
            await wire.send(frame(TEXT, long.encode()))
            got = await wire.next_frame()
            assert got.rsv == 4, "offered on the first of two lines"
            assert len(got.payload) < 200


async def test_compression_is_off_by_default() -> None:
    hub = Hub()
    async with serve_native(hub) as served, ws(served, "/channels/a", compression="deflate") as socket:
        assert socket.protocol.extensions == []
        await socket.send("x" * 1000)
        assert await soon(socket.recv()) == "x" * 1000


# -- TLS, IPv6, Unix sockets, both loops ---------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    if which("openssl") is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    command += [
        "-subj",
        "/CN=here",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(key),
        "-out",
        str(cert),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


async def test_over_tls(
    certificate: tuple[Path, Path], loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    hub = Hub()
    cert, key = certificate
    context = ssl.create_default_context(cafile=str(cert))
    async with serve_native(hub, tls_cert=str(cert), tls_key=str(key)) as served:
        url = f"wss://127.0.0.1:{served.port}/channels/a"
        async with connect(url, ssl=context, proxy=None, compression=None) as socket:
            for data in ("hi", b"\x00" * 200, "x" * 300_000, "", ["frag", "ments"]):
                await socket.send(data)
                assert await soon(socket.recv()) == ("fragments" if isinstance(data, list) else data)
            pong = await socket.ping(b"?")
            await soon(pong)
        await until(lambda: at_rest(hub))
        async with connect(url, ssl=context, proxy=None) as socket:
            hub.drain()
            assert (await closed(socket))[0] == 1012


async def test_requests_over_tls_keep_their_order(certificate: tuple[Path, Path]) -> None:
    """asyncio hands on what it has decrypted as soon as reading is resumed, which must not be before what
    waits already."""
    hub = Hub()
    cert, key = certificate
    context = ssl.create_default_context(cafile=str(cert))
    async with serve_native(hub, tls_cert=str(cert), tls_key=str(key)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=context)
        writer.write(b"GET /channels/wait?wait=50 HTTP/1.1\r\nHost: here\r\n\r\n")
        await until(lambda: len(hub.node.connections) == 1)
        for number in range(9):
            writer.write(
                b"POST /channels/a HTTP/1.1\r\nHost: here\r\nContent-Type: text/plain\r\nContent-Length:"
                b" 1\r\n\r\n%d" % number
            )
            for _ in range(5):
                await asyncio.sleep(0)
        await hub.publish("wait", "now")
        for _ in range(10):
            head = await soon(reader.readuntil(b"\r\n\r\n"))
            assert head.startswith(b"HTTP/1.1 200 ")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await soon(reader.readexactly(size))
        assert published(hub, "a") == [(True, b"%d" % number) for number in range(9)]
        writer.close()
        await writer.wait_closed()


async def _check_both_doors(served: Served, hub: Hub) -> None:
    async with await connected(served, "/channels/a") as wire, await Wire.open(served) as poll:
        await poll.send(b"GET /channels/a?wait=50 HTTP/1.1\r\nHost: here\r\n\r\n")
        await until(lambda: len(hub.node.connections) == 2)
        await wire.send(frame(TEXT, b"hi"))
        assert await wire.next_frame() == Frame(TEXT, b"hi")
        assert b'"data":"hi"' in (await poll.answer()).body
        assert len(hub.node.connections) == 1
    await until(lambda: at_rest(hub))


async def test_over_ipv6(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    try:
        listener = listening(("::1", 0), socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    hub = Hub()
    async with serve_native(hub, listener=listener) as served:
        await _check_both_doors(served, hub)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
async def test_over_a_unix_socket(
    tmp_path: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    hub = Hub()
    async with serve_native(hub, listener=listening(str(tmp_path / "s"), socket.AF_UNIX)) as served:
        async with await connected(served, "/channels/a") as wire:
            await wire.send(frame(TEXT, b"hi"), close_frame(1000))
            assert await wire.next_frame() == Frame(TEXT, b"hi")
            assert await wire.rest() == close_frame(1000)[:1] + b"\x02" + (1000).to_bytes(2)
        await until(lambda: at_rest(hub))


async def test_on_either_loop(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[bytes] = []
    monkeypatch.setattr(
        uvicorn_front.FrontProtocol, "_leave_to_uvicorn", lambda self, data: left.append(data)
    )
    hub = Hub()
    async with serve_native(hub) as served:
        await _check_both_doors(served, hub)
        wires = [await connected(served, "/channels/b") for _ in range(50)]
        await wires[0].send(b"".join(frame(TEXT, b"%d" % number) for number in range(100)))
        for wire in wires:
            assert [await wire.next_frame() for _ in range(100)] == [
                Frame(TEXT, b"%d" % number) for number in range(100)
            ]
            wire.reset()
        await until(lambda: at_rest(hub))
    assert left == []


@pytest.mark.parametrize("broken", ["aborted", "reset", "ended"])
async def test_connections_that_just_broke_do_not_keep_the_others_from_being_closed(
    broken: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """asyncio raised when one was closed that had been reset, uvloop when one was written to that was at its
    end."""
    hub = Hub()
    async with serve_native(hub) as served:
        wires = [await connected(served, "/channels/a") for _ in range(6)]
        for wire in wires[::2]:
            if broken == "aborted":
                assert wire.transport is not None
                wire.transport.abort()
            elif broken == "reset":
                wire.reset()
            else:
                wire.sock.close()
        hub.drain()
        for wire in wires[1::2]:
            assert (await wire.next_frame()).payload[:2] == (1012).to_bytes(2)
            assert await wire.rest() == b""
            wire.sock.close()
        await until(lambda: at_rest(hub))


# -- heartbeats as text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "heartbeat"),
        ("/channels/lobby", "up?"),
        ("/channels/beat:a", "tick"),
        ("/channels/beat:a?heartbeat=up%3F", "up?"),
    ],
)
async def test_heartbeat_text_is_answered_and_not_published(path: str, text: str) -> None:
    hub = Hub(namespaces={"beat": {"heartbeat_text": "tick"}})
    async with serve_native(hub) as served, ws(served, path) as one, ws(served, path) as other:
        await one.send(text)
        await one.send("said")
        answers = [text, "said"]
        if path == "/channels/lobby":  # only `/` and the namespace give a text
            assert [await soon(other.recv()) for _ in answers] == answers
        else:
            assert await soon(other.recv()) == "said"
        assert [await soon(one.recv()) for _ in answers] == answers
