"""Prefixes of every spelling, and uvicorn's end without a signal."""

import asyncio
from typing import Any

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from yarl import URL

from heartwire import Hub
from heartwire.server.addresses import segments
from tests.unit.transports.tools import listening, run, soon


@pytest.mark.parametrize("is_native", [True, False])
@pytest.mark.parametrize(
    ("prefix", "url"), [("/é", "/%C3%A9"), ("/é", "/%c3%a9"), ("/my rt", "/my%20rt"), ("/a/b", "/a/b")]
)
async def test_a_prefix_of_any_spelling_is_served(prefix: str, url: str, is_native: bool) -> None:
    """Mounted under a name that URLs have to encode, every address was 404."""
    hub = Hub()
    app = Starlette(routes=[Mount(prefix, hub.asgi())], lifespan=hub.lifespan)
    ws: Any = hub.websocket_class(prefix) if is_native else "websockets-sansio"
    config = uvicorn.Config(app, ws=ws, lifespan="on", log_config=None)
    async with run(config, hub=hub) as served, aiohttp.ClientSession(served.url) as http:
        at = URL(f"{served.url}{url}/channels/a%2Fb", encoded=True)
        async with http.ws_connect(at) as socket, http.post(at, data=b"x") as answer:
            assert answer.status == 200
            assert (await soon(socket.receive())).data in (b"x", "x")
        async with http.get(at.with_query(since="earliest")) as poll:
            assert len((await poll.json())["publications"]) == 1


@pytest.mark.parametrize(
    ("path", "raw", "root"),
    [
        ("/channels/a/b", b"/channels/a%2Fb", ""),
        ("/channels/a/b", b"/rt/channels/a%2Fb", ""),
        ("/channels/a/b", b"/my%20rt/channels/a%2Fb", "/my rt"),
        ("/my rt/channels/a/b", b"/my%20rt/channels/a%2fb", "/my rt"),
        ("/my rt/channels/a/b", b"/my%20rt/channels/a%2Fb?x=1", "/my%20rt"),
        ("/é/channels/a/b", b"/%c3%a9/channels/a%2Fb", "/é"),
        ("/rt/channels/a/b", b"/rt/channels/a%2Fb", "/rt/"),
    ],
)
def test_the_path_below_the_prefix_is_found(path: str, raw: bytes, root: str) -> None:
    """Middleware that cuts ``path`` and leaves ``raw_path`` made every address 404."""
    assert segments({"path": path, "raw_path": raw, "root_path": root}) == ["channels", "a/b"]
    assert segments({"path": "/channels/a", "raw_path": b"", "root_path": ""}) == ["channels", "a"]


@pytest.mark.parametrize("is_limit", [False, True])
async def test_uvicorn_ends_without_a_signal_while_a_stream_is_open(is_limit: bool) -> None:
    """It waited for the stream, which never ended."""
    hub = Hub()
    listener = listening(("127.0.0.1", 0))
    limit = 1 if is_limit else None
    config = uvicorn.Config(
        hub.asgi(), lifespan="on", log_config=None, limit_max_requests=limit, timeout_graceful_shutdown=None
    )
    server = uvicorn.Server(config)
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    port = listener.getsockname()[1]
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/channels/a", headers={"accept": "text/event-stream"}) as stream,
    ):
        assert stream.status == 200
        async with http.get(f"http://127.0.0.1:{port}/health") as answered:  # the limit counts answers
            assert answered.status == 200
        if not is_limit:
            server.should_exit = True
        await soon(stream.content.read())
        await soon(task)
