"""A hub that is started again, published to from elsewhere, or not started at all."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount
from websockets.asyncio.client import connect

from heartwire import ConnectedClient, Hub, Identity, NotStarted
from tests.unit.transports.tools import published, serve_asgi, serve_native, soon, until

ENGINES = ["memory://", "sqlite"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/hub.db" if request.param == "sqlite" else request.param


async def asked(app: Any, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
    """One request to an ASGI application, as servers make it."""
    parts: list[dict[str, Any]] = []
    never = asyncio.Event()
    given = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        if not given:
            await never.wait()
        return given.pop()

    async def send(message: dict[str, Any]) -> None:
        parts.append(message)

    path, _, query = path.partition("?")
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    scope["headers"] = [(b"host", b"testserver")]
    scope |= {"http_version": "1.1", "client": ("127.0.0.1", 1), "root_path": "", "scheme": "http"}
    await app(scope | {"server": ("testserver", 80)}, receive, send)
    return parts[0]["status"], b"".join(part.get("body", b"") for part in parts).decode()


@pytest.mark.parametrize("is_mounted", [False, True])
def test_a_hub_that_was_stopped_serves_again(engine: str, is_mounted: bool) -> None:
    """It stayed draining: two test clients with one hub of a module got 503 for everything."""
    hub = Hub(engine)
    app: Any = Starlette(routes=[Mount("/", hub.asgi())]) if is_mounted else hub.asgi()

    async def turn(number: int) -> str:
        async with hub.lifespan():
            assert (await asked(app, "GET", "/health"))[0] == 200
            poll = asyncio.ensure_future(asked(app, "GET", "/channels/news?wait=20"))
            await until(lambda: hub.node.switchboard.topics)
            assert (await asked(app, "POST", "/channels/news", b"turn %d" % number))[0] == 200
            assert f"turn {number}" in (await poll)[1]
            return (await asked(app, "GET", "/channels/news?since=earliest"))[1]

    kept = [asyncio.run(turn(number)) for number in range(3)]
    assert "turn 0" in kept[-1], "what was kept before the stop is kept, in memory too"
    assert "turn 2" in kept[-1]


async def test_a_stopped_hub_is_not_started_again_by_a_request() -> None:
    """A request that came while or after the hub stopped opened the engine again."""
    hub = Hub()
    async with hub.lifespan():
        pass
    assert (await asked(hub.asgi(), "POST", "/channels/news", b"late"))[0] == 503
    assert not hub.node.is_started


async def test_publishing_on_a_hub_that_does_not_run_here_is_an_error(engine: str) -> None:
    """It started an engine that nobody read."""
    hub = Hub(engine)
    for call in (hub.publish("news", "x"), hub.remove_history("news")):
        with pytest.raises(NotStarted, match=r"lifespan.*HTTP API"):
            await call
    with pytest.raises(NotStarted, match="lifespan"):
        hub.publish_sync("news", "x")
    with pytest.raises(NotStarted, match="lifespan"):
        hub.remove_history_sync("news")
    assert not hub.node.is_started
    async with hub.lifespan():
        await hub.publish("news", "x")
    with pytest.raises(NotStarted):
        await hub.publish("news", "x")


async def test_publishing_works_from_other_threads_and_loops(engine: str) -> None:
    """In memory it ran unsafely; with SQLite it published and then raised, so that a retry doubled."""
    hub = Hub(engine)
    async with hub.lifespan():
        first = await asyncio.to_thread(hub.publish_sync, "news", "sync")
        second = await asyncio.to_thread(lambda: asyncio.run(hub.publish("news", "other loop")))
        third = await hub.publish("news", "own loop")
        assert [first.offset, second.offset, third.offset] == [1, 2, 3]
        assert (await asyncio.to_thread(hub.remove_history_sync, "news")).offset == 3
        with pytest.raises(RuntimeError, match="await"):
            hub.publish_sync("news", "would wait for itself")


def test_one_loop_a_request_without_a_lifespan_names_the_lifespan(engine: str) -> None:
    """The first request was answered, the next failed with words about futures and loops."""
    hub = Hub(engine)
    app = hub.asgi()
    assert asyncio.run(asked(app, "POST", "/channels/news", b"first"))[0] == 200
    with pytest.raises(NotStarted, match="lifespan"):
        asyncio.run(asked(app, "POST", "/channels/news", b"second"))


@pytest.mark.parametrize("serve", [serve_native, serve_asgi])
async def test_sync_functions_of_the_application_run_in_threads(serve: Any) -> None:
    """They ran on the event loop: they held it up, and Django's ORM refuses to work there."""
    hub = Hub()
    seen: dict[str, bool] = {}

    def note(name: str) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            seen[name] = threading.current_thread() is not threading.main_thread()
        else:
            seen[name] = False

    @hub.authenticate
    def who(request: HTTPConnection) -> str:
        note("authenticate")
        return request.cookies["session"]

    @hub.namespace("")
    def may(identity: Identity, action: str, channel: str) -> bool:
        note("permission")
        return identity.user == "ann"

    @hub.on_publish
    def check(identity: Identity, channel: str, data: bytes) -> None:
        note("publish")
        hub.publish_sync("log", data)

    async with (
        serve(hub) as served,
        connect(
            served.url.replace("http", "ws") + "/channels/news",
            additional_headers={"cookie": "session=ann"},
            proxy=None,
        ) as socket,
    ):
        for number in range(5):
            await socket.send(f"m{number}")
        heard = [str(await soon(socket.recv())) for _ in range(5)]
        assert heard == [f"m{number}" for number in range(5)]
        assert published(hub, "log") == [(False, b"m%d" % number) for number in range(5)]
    assert seen == {"authenticate": True, "permission": True, "publish": True}


async def test_a_client_is_told_what_to_do_from_a_thread() -> None:
    """Its methods wrote to the connection from whichever thread called them."""
    on: list[threading.Thread] = []
    sent: list[bytes] = []

    class Told:
        def disconnect(self, code: int, reason: str) -> None:
            on.append(threading.current_thread())

        def send(self, data: bytes) -> None:
            on.append(threading.current_thread())
            sent.append(data)

    client = ConnectedClient(Told())  # type: ignore[arg-type]
    await asyncio.to_thread(client.disconnect)
    client.disconnect()
    await asyncio.to_thread(client.send, {"a": 1})
    client.send(None)
    assert on == [threading.current_thread()] * 4
    assert sent == [b'{"a":1}', b"null"]
