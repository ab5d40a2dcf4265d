"""`examples/socketio_chat.py`; applications as python-socketio's documents have them, served by plain uvicorn,
and by `heartwire serve`."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.routing import Mount

import heartwire.socketio as socketio
from heartwire.testing.server import run_server, serving
from heartwire.transports.websocket.messages import NATIVE
from tests.integration.socketio.wire import Wire
from tests.integration.test_examples import EXAMPLES


@pytest.mark.slow
@pytest.mark.parametrize("engine", [{}, {"CHAT_ENGINE": "sqlite:///chat.db"}])
async def test_the_chat(engine: dict[str, str], tmp_path: Path) -> None:
    """Two clients and the program talk; one is away, and gets what it missed, after a restart too."""
    (tmp_path / "socketio_chat.py").write_text((EXAMPLES / "socketio_chat.py").read_text())
    with run_server("socketio_chat:app", engine=None, environment=engine, folder=tmp_path) as server:
        # A client by whose name nobody takes it for python-socketio's.
        async with aiohttp.ClientSession(headers={"User-Agent": "Mozilla/5.0"}) as http:
            wire = Wire(server.url, http)
            async with wire.opened() as ann:
                joined = await ann.join(auth={"name": "Ann"})
                await ann.send('421["join","red"]')
                assert await ann.next() == '431["Ann"]'
                async with wire.opened() as bob, wire.opened() as nobody:
                    await nobody.send("40")
                    assert str(await nobody.next()).startswith('44{"message":"send a name')
                    await bob.join(auth={"name": "Bob"})
                    await bob.send('421["say","red","too early"]')
                    assert await bob.next() == '431["join the room first"]'
                    await bob.send('422["join","red"]')
                    assert await bob.next() == '432["Bob"]'
                    await bob.send('42["typing","red"]')
                    assert json.loads(str(await ann.next())[2:])[:2] == [
                        "joined",
                        {"room": "red", "name": "Bob"},
                    ]
                    typing = json.loads(str(await ann.next())[2:])
                    assert typing[:2] == ["typing", {"room": "red", "name": "Bob"}]
            async with http.post(f"{server.url}/announce/red?text=Lunch!") as answer:
                assert answer.status == 200
            if engine:
                await asyncio.to_thread(server.restart)
            async with wire.opened() as ann:
                auth = {"name": "Ann", "pid": joined["pid"], "offset": typing[2]}
                await ann.send("40" + json.dumps(auth))
                assert json.loads(str(await ann.next())[2:]) == joined
                missed = json.loads(str(await ann.next())[2:])
                assert missed[1] == {"room": "red", "name": "", "text": "Lunch!"}
                await ann.send('427["say","red","back"]')
                got = sorted([str(await ann.next()), str(await ann.next())])
                assert got[0].startswith('42["said",{"room":"red","name":"Ann","text":"back"}')
                assert got[1] == '437["kept"]'
            async with http.get(f"{server.url}/") as answer:
                assert "socket.io" in await answer.text()
            async with http.get(f"{server.url}/channels/a") as answer:
                assert answer.status == 404  # the hub's other addresses are not there


# -- ASGIApp -------------------------------------------------------------------------------------------------


async def get(url: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return answer.status, answer.content_type, await answer.text()


async def test_static_files(tmp_path: Path) -> None:
    for name in ("page.html", "site/index.html", "site/style.css", "site/deep/data.bin", "secret.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    files = {
        "/": str(tmp_path / "page.html"),
        "/static": str(tmp_path / "site"),
        "/folder/": f"{tmp_path}/site/",
        "/named": {"filename": str(tmp_path / "page.html"), "content_type": "text/x-own"},
    }
    sio = socketio.AsyncServer()
    async with serving(socketio.ASGIApp(sio, static_files=files), hub=sio.hub) as url:
        assert await get(f"{url}/") == (200, "text/html", "page.html")
        assert await get(f"{url}/static/style.css") == (200, "text/css", "site/style.css")
        assert (await get(f"{url}/static/deep/data.bin"))[2] == "site/deep/data.bin"
        assert (await get(f"{url}/static/"))[2] == "site/index.html"
        assert (await get(f"{url}/folder/style.css"))[2] == "site/style.css"
        assert await get(f"{url}/named") == (200, "text/x-own", "page.html")
        for path in ("/static/nothing", "/static/%2e%2e/secret.txt", "/elsewhere", "/page.html"):
            assert (await get(url + path))[0] == 404, path
        assert "sid" in (await get(f"{url}/socket.io/?EIO=4&transport=polling"))[2]


async def test_in_front_of_another_application() -> None:
    """Its lifespan runs inside the hub's; its WebSockets are its own, on the native door too."""
    sio = socketio.AsyncServer()
    begun: list[bool] = []

    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        begun.append(sio.hub.node.is_started)
        yield
        begun.append(sio.hub.node.is_started)

    web = FastAPI(lifespan=contextlib.asynccontextmanager(lifespan))

    @web.websocket("/channels/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    @web.get("/channels/own")
    async def own() -> str:
        return "the other application's"

    app = socketio.ASGIApp(sio, web)
    sio.hub.node.attached["asgi"] = app  # as `heartwire serve` has it
    for served in (sio.hub, app):
        begun.clear()
        async with serving(served, hub=sio.hub) as url, aiohttp.ClientSession() as http:
            assert (await get(f"{url}/channels/own"))[2] == '"the other application\'s"'
            async with http.ws_connect(f"{url}/channels/echo") as socket:
                await socket.send_str("hi")
                assert await socket.receive_str() == "hi"
            wire = Wire(url, http)
            async with wire.opened() as client:
                sid = (await client.join())["sid"]
                link = sio.hub.node.attached["socketio"].sessions  # type: ignore[attr-defined]
                [connection] = link.values()
                assert (connection.engine.socket.messages is NATIVE) == (served is sio.hub)
                assert sio.transport(sid) == "websocket"
        assert begun == [True, True]


@pytest.mark.parametrize("is_mounted", [True, False])
async def test_below_another_path(is_mounted: bool) -> None:
    sio = socketio.AsyncServer()
    if is_mounted:
        app: Any = Starlette(routes=[Mount("/ws", socketio.ASGIApp(sio))])
        path = "/ws/socket.io/"
    else:
        app, path = Starlette(), "/own/"
        sio.attach(app, "own")
    async with serving(app, hub=sio.hub) as url, aiohttp.ClientSession() as http:
        wire = Wire(url, http, path)
        async with wire.opened() as client:
            await client.join()
        assert (await get(f"{url}/elsewhere/"))[0] == 404


async def test_functions_at_start_and_end() -> None:
    sio = socketio.AsyncServer()
    seen: list[str] = []

    async def begin() -> None:
        await sio.emit("nobody is here")
        seen.append("start")

    app = socketio.ASGIApp(sio, on_startup=begin, on_shutdown=lambda: seen.append("end"))
    async with serving(app, hub=sio.hub):
        assert seen == ["start"]
    assert seen == ["start", "end"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sio", "app"])
def test_heartwire_serve_takes_a_server_and_its_application(name: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import heartwire.socketio as socketio\n"
        "sio = socketio.AsyncServer(cors_allowed_origins='*')\n"
        "app = socketio.ASGIApp(sio, static_files={'/hello': 'own.py'}, socketio_path='deep/sio')\n"
    )

    async def check(url: str) -> None:
        async with aiohttp.ClientSession() as http:
            path = "/socket.io/" if name == "sio" else "/deep/sio/"
            wire = Wire(url, http, path)
            async with wire.opened() as client:
                await client.join()
            sid = await wire.open()
            assert (await wire.post(sid, "40")).body == "ok"
            assert (await wire.poll(sid)).body.startswith("40{")
            statuses = [(await get(url + path))[0] for path in ("/hello", "/channels/a")]
            assert statuses == ([404, 200] if name == "sio" else [200, 404])

    with run_server(f"own:{name}", engine=None, folder=tmp_path) as server:
        asyncio.run(check(server.url))
        assert "Traceback" not in server.log
