"""Handshakes of the native door pass the application's middleware, as those of any ASGI server do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from heartwire import Hub, Unauthorized
from tests.unit.transports.tools import TEXT, Frame, Served, Wire, at_rest, frame, handshake, run, soon, until


class Around:
    """Middleware made of a function of the inner application and ASGI's three."""

    def __init__(self, app: ASGIApp, work: Any) -> None:
        self.app, self.work = app, work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.work(self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)


@contextlib.asynccontextmanager
async def behind(
    hub: Hub, *middleware: Middleware, is_native: bool = True, routes: Any = (), **settings: Any
) -> AsyncIterator[Served]:
    mounted = [*routes, Mount("/rt", hub.asgi())]
    app = Starlette(routes=mounted, middleware=middleware, lifespan=hub.lifespan)
    ws: Any = hub.websocket_class("/rt") if is_native else "websockets-sansio"
    config = uvicorn.Config(app, ws=ws, lifespan="on", log_config=None, **settings)
    async with run(config, hub=hub) as served:
        yield served


async def answer_to(served: Served, *lines: str, path: str = "/rt/channels/a") -> Any:
    async with await Wire.open(served) as wire:
        await wire.send(handshake(path, *lines))
        answer = await wire.answer()
        return answer if answer.status == 101 else answer._replace(body=answer.body + await wire.rest())


def handshakes() -> list[Any]:
    """The tasks of handshakes that are being answered."""
    return [task for task in asyncio.all_tasks() if "AsgiHandshake" in repr(task)]


async def test_an_authenticator_reads_the_session_and_an_open_socket_has_no_task() -> None:
    """It raised, because no middleware had put the session into the scope: 3004 for ever."""
    hub = Hub()

    @hub.authenticate
    async def who(request: HTTPConnection) -> str:
        if "user" not in request.session:
            raise Unauthorized("log in first")
        return str(request.session["user"])

    async def log_in(request: Request) -> PlainTextResponse:
        request.session["user"] = "ann"
        return PlainTextResponse("ok")

    sessions = Middleware(SessionMiddleware, secret_key="s3cret")
    async with behind(hub, sessions, routes=[Route("/login", log_in)]) as served:
        async with await Wire.open(served) as wire:
            await wire.send(handshake("/rt/channels/a"))
            assert (await wire.answer()).status == 101
            assert (await wire.next_frame()).payload == (3500).to_bytes(2) + b"log in first"
        async with await Wire.open(served) as wire:
            await wire.send(b"GET /login HTTP/1.1\r\nHost: here\r\n\r\n")
            cookie = ((await wire.answer()).header("set-cookie") or "").partition(";")[0]
        async with await Wire.open(served) as wire:
            await wire.send(handshake("/rt/channels/a", f"Cookie: {cookie}"), frame(TEXT, b"early"))
            assert (await wire.answer()).status == 101
            assert await wire.next_frame() == Frame(TEXT, b"early")
            assert [one.identity.user for one in hub.node.connections] == ["ann"]
            await until(lambda: not handshakes(), "the task of the handshake has ended")
        await until(lambda: at_rest(hub))


@pytest.mark.parametrize("is_native", [True, False])
async def test_what_middleware_adds_and_refuses_is_answered(is_native: bool) -> None:
    async def work(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "websocket.accept":
                message = {**message, "headers": [*message.get("headers", ()), (b"set-cookie", b"seen=1")]}
            await send(message)

        wanted = scope["query_string"].decode()
        if wanted == "":
            await app(scope, receive, sending)
        elif wanted == "close":
            await send({"type": "websocket.close", "code": 4000})
        elif wanted == "answer":
            start = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-why", b"y")]}
            await send(start)
            await send({"type": "websocket.http.response.body", "body": b"log ", "more_body": True})
            await send({"type": "websocket.http.response.body", "body": b"in"})
        elif wanted == "raise":
            raise ZeroDivisionError

    async with behind(Hub(), Middleware(Around, work=work), is_native=is_native) as served:
        opened = await answer_to(served)
        assert (opened.status, opened.header("set-cookie")) == (101, "seen=1")
        assert (await answer_to(served, path="/rt/channels/a?close")).status == 403
        answer = await answer_to(served, path="/rt/channels/a?answer")
        assert (answer.status, answer.header("x-why"), answer.body) == (401, "y", b"log in")
        assert (await answer_to(served, path="/rt/channels/a?raise")).status == 500
        assert (await answer_to(served, path="/rt/channels/a?return")).status == 500


async def test_another_application_cannot_accept(caplog: pytest.LogCaptureFixture) -> None:
    async def own(socket: WebSocket) -> None:
        await socket.accept()

    async with behind(Hub(), routes=[WebSocketRoute("/rt/channels/own", own)]) as served:
        assert (await answer_to(served, path="/rt/channels/own")).status == 500
        assert "another application than the hub at '/rt/channels/own'" in caplog.text
        assert (await answer_to(served)).status == 101


async def test_the_scope_is_that_of_uvicorn() -> None:
    scopes = []

    async def work(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append({**scope, "extensions": {**scope["extensions"]}, "state": {**scope["state"]}})
        await app(scope, receive, send)

    lines = ["Sec-WebSocket-Protocol: a, b", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https"]
    for is_native in (True, False):
        around = Middleware(Around, work=work)
        async with behind(Hub(), around, is_native=is_native, root_path="/x") as served:
            await answer_to(served, *lines, path="/rt/channels/a%2Fb?x=%20")
    native, own = scopes
    assert native["extensions"].pop("heartwire.socket", None) is not None
    for scope in scopes:
        del scope["server"], scope["app"]
    assert native == own
    assert (native["client"], native["scheme"], native["subprotocols"]) == (
        ("192.0.2.7", 0),
        "wss",
        ["a", "b"],
    )


async def test_middleware_hears_of_a_client_that_goes() -> None:
    heard: list[Message] = []

    async def work(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())
        heard.append(await receive())
        await app(scope, receive, send)

    hub = Hub()
    async with behind(hub, Middleware(Around, work=work)) as served:
        wire = await Wire.open(served)
        await wire.send(handshake("/rt/channels/a"))
        await until(lambda: heard and handshakes())
        wire.reset()
        await until(lambda: len(heard) == 2 and not handshakes())
        assert [message["type"] for message in heard] == ["websocket.connect", "websocket.disconnect"]
        assert at_rest(hub)


@pytest.mark.parametrize("is_native", [True, False])
async def test_a_hub_that_drains_lets_nobody_in_who_was_being_asked_about(is_native: bool) -> None:
    hub = Hub()
    gate, asked = asyncio.Event(), asyncio.Event()

    @hub.authenticate
    async def who(request: HTTPConnection) -> str:
        asked.set()
        await gate.wait()
        return "ann"

    async with behind(hub, is_native=is_native) as served, await Wire.open(served) as wire:
        await wire.send(handshake("/rt/channels/a"))
        await soon(asked.wait())
        hub.drain()
        gate.set()
        assert (await wire.answer()).status == 101
        assert (await wire.next_frame()).payload[:2] == (1012).to_bytes(2)
        assert not hub.node.connections
