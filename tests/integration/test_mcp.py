"""The event store of MCP, by the client and the server of its Python SDK over streamable HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import ClientSession, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import JSONRPCNotification

from heartwire import Hub
from heartwire.engines.contract import Engine
from heartwire.engines.registry import open_engine
from heartwire.mcp import EventStore
from heartwire.testing.server import serving
from tests.integration.mcp_worker import Worker
from tests.processes import run_app

HOST = "http://127.0.0.1:1"


@contextlib.asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[str]:
    async with serving(worker.app, hub=worker.hub) as url:
        yield url


class Way(httpx2.AsyncHTTPTransport):
    """The way of a client to a worker, which the test may close for GETs, or turn to another."""

    def __init__(self, url: str, token: str = "") -> None:
        super().__init__()
        self.url, self.token = url, token
        self.is_open, self.comes = asyncio.Event(), asyncio.Event()
        self.asked: list[str] = []
        self.session_id = ""
        self._answers: list[httpx2.Response] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            await self.is_open.wait()
            self.asked += filter(None, [request.headers.get("last-event-id")])
            self.comes.set()
            self.comes.clear()
        if self.token:
            request.headers["authorization"] = f"Bearer {self.token}"
        request.url = httpx2.URL(self.url).join(request.url.raw_path.decode())
        answer = await super().handle_async_request(request)
        self.session_id = answer.headers.get("mcp-session-id", self.session_id)
        return answer


@contextlib.asynccontextmanager
async def client(way: Way) -> AsyncIterator[tuple[ClientSession, Way]]:
    async with (
        httpx2.AsyncClient(transport=way, timeout=20) as http,
        streamable_http_client(f"{HOST}/mcp", http_client=http, terminate_on_close=False) as (read, write),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        await session.list_tools()  # by which it checks results
        yield session, way


class Call:
    """A call of `Worker.count`."""

    def __init__(self, session: ClientSession, to: int) -> None:
        self.heard: list[float] = []
        self.first = asyncio.Event()
        self.task = asyncio.ensure_future(
            session.call_tool("count", {"to": to}, progress_callback=self._progress)
        )

    async def _progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.heard.append(progress)
        self.first.set()

    async def answer(self) -> str:
        result: Any = await asyncio.wait_for(self.task, 20)
        return str(result.content[0].text)


ENGINES = ["memory", "sqlite"]


def engine_of(name: str, folder: Path) -> Engine:
    return open_engine("memory://" if name == "memory" else f"sqlite:///{folder}/mcp.db")


async def resume(way: Way, session_id: str, last_id: str) -> httpx2.Response:
    """What a client that was cut off asks."""
    headers = {"mcp-session-id": session_id, "last-event-id": last_id, "accept": "text/event-stream"}
    if way.token:
        headers["authorization"] = f"Bearer {way.token}"
    async with httpx2.AsyncClient(timeout=5) as http:
        return await http.get(f"{way.url}/mcp", headers=headers)


async def test_a_client_that_was_cut_off_hears_the_rest() -> None:
    worker = Worker(Hub())
    async with working(worker) as url, client(Way(url)) as (session, way):
        call = Call(session, 600)  # more than is read at once
        await call.first.wait()
        worker.cut.set()
        worker.go.set()
        await worker.is_done.wait()
        way.is_open.set()
        assert await call.answer() == "counted to 600"
        assert call.heard == list(range(1, 601))


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_client_hears_the_rest_from_the_next_process(engine: str, tmp_path: Path) -> None:
    store = engine_of(engine, tmp_path)
    worker = Worker(Hub(store))
    async with contextlib.AsyncExitStack() as stack:
        async with working(worker) as url:
            session, way = await stack.enter_async_context(client(Way(url)))
            call = Call(session, 600)
            await call.first.wait()
            worker.cut.set()
            worker.go.set()
            await worker.is_done.wait()
        async with working(Worker(Hub(store))) as way.url:
            way.is_open.set()
            assert await call.answer() == "counted to 600"
            assert call.heard == list(range(1, 601))


async def test_a_call_ends_with_its_process() -> None:
    store = open_engine("memory://")
    worker = Worker(Hub(store))
    async with contextlib.AsyncExitStack() as stack:
        async with working(worker) as url:
            session, way = await stack.enter_async_context(client(Way(url)))
            call = Call(session, 2)
            await call.first.wait()
            worker.cut.set()
        async with working(Worker(Hub(store))) as way.url:
            way.is_open.set()
            with pytest.raises(MCPError, match="worker that had this call is gone"):
                await call.answer()
            assert call.heard == [1]
            # Once, for all who ask.
            answers = [(await resume(way, way.session_id, way.asked[0])).text for _ in range(2)]
            assert answers[0] == answers[1]
            assert answers[0].count("data:") == answers[0].count("-32000") == 1


async def test_another_session_gets_nothing() -> None:
    store = open_engine("memory://")
    worker = Worker(Hub(store))
    async with working(worker) as url, client(Way(url)) as (session, way), client(Way(url)) as (_, other):
        kept = [channel async for channel, _ in store.streams()]  # type: ignore[attr-defined]
        assert len(kept) == len(set(kept)) == 6  # of each its record, its first answer and its list of tools
        call = Call(session, 3)
        await call.first.wait()
        worker.cut.set()
        worker.go.set()
        way.is_open.set()
        await call.answer()
        first, ids = way.asked[0], (way.session_id, other.session_id)
        other.is_open.set()
        position, _, stream = first.partition("@")
        for stranger in ("a", f"1.1@{stream}", "@", f"{first}x", f"{position}@%0a", f"{position}@", position):
            assert "data: {" not in (await resume(way, ids[0], stranger)).text
        assert "data: {" not in (await resume(other, ids[1], first)).text

    async with working(Worker(Hub(store))) as way.url:
        assert "counted to 3" in (await resume(way, ids[0], first)).text
        assert (await resume(way, ids[1], first)).status_code == 404
        assert (await resume(way, "unknown", first)).status_code == 404
        assert (await resume(way, ids[0], "unknown")).status_code == 404


async def test_a_session_that_was_ended_is_not_resumed() -> None:
    store = open_engine("memory://")
    worker = Worker(Hub(store))
    async with working(worker) as url, client(Way(url)) as (session, way):
        call = Call(session, 3)
        await call.first.wait()
        worker.cut.set()
        worker.go.set()
        way.is_open.set()
        await call.answer()
        async with httpx2.AsyncClient() as http:
            ended = await http.delete(f"{url}/mcp", headers={"mcp-session-id": way.session_id})
            assert ended.status_code == 200
    async with working(Worker(Hub(store))) as way.url:
        assert (await resume(way, way.session_id, way.asked[0])).status_code == 404


async def test_a_session_is_worth_nothing_with_credentials_of_others() -> None:
    store = open_engine("memory://")
    worker = Worker(Hub(store), asks_tokens=True)
    async with working(worker) as url, client(Way(url, "ann")) as (session, way):
        call = Call(session, 3)
        await call.first.wait()
        worker.cut.set()
        worker.go.set()
        way.is_open.set()
        await call.answer()
    async with working(Worker(Hub(store), asks_tokens=True)) as way.url:
        assert "counted to 3" in (await resume(way, way.session_id, way.asked[0])).text
        for token, status in (("bob", 404), ("", 401)):
            way.token = token
            assert (await resume(way, way.session_id, way.asked[0])).status_code == status


@pytest.mark.slow
@pytest.mark.parametrize("ends", [False, True])
async def test_any_worker_tells_what_another_says(ends: bool, tmp_path: Path) -> None:
    """The client comes back to another worker, which knows what the first one keeps, and when it has ended."""
    url = f"sqlite:///{tmp_path}/mcp.db?shared=yes"
    first = Worker(Hub(url))
    async with contextlib.AsyncExitStack() as stack:
        first_url = await stack.enter_async_context(working(first))
        second_url = await stack.enter_async_context(working(Worker(Hub(url))))
        session, way = await stack.enter_async_context(client(Way(first_url)))
        call = Call(session, 300)
        await call.first.wait()
        way.url = second_url
        way.is_open.set()
        first.cut.set()
        while len(way.asked) < 3:  # there is nothing yet
            await way.comes.wait()
        if ends:
            await first.hub.stop()
            with pytest.raises(MCPError, match="worker that had this call is gone"):
                await call.answer()
        else:
            first.go.set()
            assert await call.answer() == "counted to 300"
            assert call.heard == list(range(1, 301))


@pytest.mark.slow
async def test_a_client_resumes_over_a_kill(tmp_path: Path) -> None:
    environment = {"ENGINE": f"sqlite:///{tmp_path}/mcp.db"}
    with run_app("tests.integration.mcp_worker:app", environment=environment) as server:
        async with client(Way(server.url)) as (session, way), httpx2.AsyncClient(timeout=20) as http:
            call = Call(session, 300)
            await call.first.wait()
            for event in ("cut", "go", "is_done"):
                await http.post(f"{server.url}/told/{event}")
            server.restart()
            way.is_open.set()
            assert await call.answer() == "counted to 300"
            assert call.heard == list(range(1, 301))
        async with client(Way(server.url)) as (session, way):
            call = Call(session, 300)
            await call.first.wait()
            server.restart()
            way.is_open.set()
            with pytest.raises(MCPError, match="worker that had this call is gone"):
                await call.answer()
            assert call.heard == [1]


async def test_what_is_not_kept_has_no_id_and_nothing_has_one_after_it(caplog: Any) -> None:
    hub = Hub()
    store = EventStore(hub, max_stream_bytes=200)
    said: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for text in ("a", "b" * 200, "c"):
            note = JSONRPCNotification(jsonrpc="2.0", method=text)
            said.append(await store.store_event("1", note))
        said.append(await store.store_event("2", note))

    scope = {"type": "http", "method": "POST", "headers": [(b"mcp-session-id", b"s")]}
    await store.wrap(app)(scope, None, None)  # type: ignore[arg-type]
    assert [one.partition("@")[2] for one in said] == ["1", "", "", "2"]
    assert "cannot be resumed" in caplog.text
    await hub.stop()


async def test_the_application_has_to_be_wrapped() -> None:
    with pytest.raises(RuntimeError, match="wrap"):
        await EventStore(Hub()).store_event("1", None)


async def test_clients_of_the_hub_cannot_use_its_channels() -> None:
    hub = Hub()
    EventStore(hub)
    async with serving(hub) as url, httpx2.AsyncClient() as http:
        assert (await http.get(f"{url}/channels/mcp:1?since=earliest")).status_code == 403
