"""`heartwire serve --workers N` without stickiness: each request of a client comes to whichever worker.

The clients are the public ones. They use each connection once, so that keep-alive does not hold them at the
worker that they began at.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import socketio as clients  # type: ignore[import-untyped]

from heartwire.testing.server import ServerProcess, run_server
from tests.integration.client.tools import say, until
from tests.integration.nodes.deployment import store_process
from tests.integration.socketio.nodes import Nodes, Raw, browser
from tests.integration.test_workers import Children
from tests.js.node import need_packages

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc"),
]

APP: Final = "tests.integration.socketio.worker_app:hub"
ROOT: Final = Path(__file__).parents[3]
SCRIPT: Final = Path(__file__).with_name("crowd.mjs")
WITHIN_S: Final = 30


@contextlib.contextmanager
def run_workers(count: int, **variables: str) -> Iterator[ServerProcess]:
    """Workers on a SQLite file."""
    environment = {"ENGINE": "sqlite:///s.db", "TICK_S": "0.1", "PYTHONPATH": str(ROOT), **variables}
    with run_server(APP, "--workers", str(count), engine=None, environment=environment) as server:
        yield server


@pytest.fixture(scope="module")
def workers() -> Iterator[ServerProcess]:
    """Two workers, which recover nobody."""
    with run_workers(2) as server:
        yield server


class Crowd:
    """Clients of socket.io-client, in a process of Node."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def come(cls, url: str, mode: str, count: int) -> AsyncIterator["Crowd"]:
        need_packages()
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "node", str(SCRIPT), url, mode, str(count), stdin=pipe, stdout=pipe, limit=2**20
        )
        try:
            yield cls(process)
        finally:
            process.kill()
            await process.wait()

    async def settled(self) -> list[dict[str, Any]]:
        """What each client says once all have settled."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            return json.loads(await self._process.stdout.readline())  # type: ignore[no-any-return]

    async def ask(self) -> list[dict[str, Any]]:
        """Have each client ask the server something, and say what it has seen by then."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self.settled()

    async def go_on(self, workers: list[int]) -> list[dict[str, Any]]:
        """The same, once ticks of these workers, as far as they count, have come to all clients again."""
        before = await self.ask()
        async with asyncio.timeout(WITHIN_S):
            while True:
                told = await self.ask()
                counting = {str(one) for one in workers} & {one for now in told for one in now["last"]}
                if counting and all(
                    now["last"].get(one, 0) > was["last"].get(one, 0)
                    for now, was in zip(told, before, strict=True)
                    for one in counting
                ):
                    return told


def total(told: list[dict[str, Any]], what: str) -> int:
    return sum(one[what] for one in told)


@pytest.mark.parametrize("mode", ["default", "polling", "websocket"])
async def test_a_crowd_of_socket_io_clients_connects_is_answered_and_stays(
    workers: ServerProcess, mode: str
) -> None:
    began = time.monotonic()
    async with Crowd.come(workers.url, mode, 100) as crowd:
        told = await crowd.settled()
        within_s = time.monotonic() - began
        assert total(told, "answered") == 100
        told = await crowd.go_on(Children(workers).workers)
        assert (total(told, "answered"), total(told, "connected")) == (100, 100)
        assert [total(told, what) for what in ("lost", "doubled", "disconnects")] == [0, 0, 0]
        assert {one["transport"] for one in told} == {"polling" if mode == "polling" else "websocket"}
        assert {len(one["last"]) for one in told} == {2}  # ticks of both workers
        assert mode == "websocket" or all(one["forwarded"] for one in told)
        say(f"{mode}: 100 of 100 connected and answered after {within_s:.1f} s")


@pytest.mark.parametrize("transports", [None, ["polling"], ["websocket"]])
async def test_clients_of_python_socketio_connect_are_answered_and_stay(
    workers: ServerProcess, transports: list[str] | None
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        told: list[list[str]] = []
        crowd = []
        for _ in range(20):
            http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
            client = clients.AsyncClient(http_session=await stack.enter_async_context(http))
            told.append([])
            client.on("told", told[-1].append)
            crowd.append(client)
        await asyncio.gather(*(client.connect(workers.url, transports=transports) for client in crowd))
        for client in crowd:
            stack.push_async_callback(client.disconnect)
        answers = await asyncio.gather(*(client.call("sum", (n, 1)) for n, client in enumerate(crowd)))
        assert [answer["sum"] for answer in answers] == list(range(1, 21))
        assert len({answer["pid"] for answer in answers}) == 2
        for n, client in enumerate(crowd):
            await client.emit("tell", (crowd[n - 1].get_sid(), f"from {n}"))
        await until(lambda: all(told), WITHIN_S)
        assert told == [[f"from {(n + 1) % 20}"] for n in range(20)]
        assert all(client.connected for client in crowd)


def _is_replaced(server: ServerProcess, worker: int) -> bool:
    try:
        workers = Children(server).workers
    except FileNotFoundError:  # one has ended while they were looked at
        return False
    return worker not in workers and len(workers) == 2


@pytest.mark.parametrize("mode", ["default", "polling"])
async def test_clients_of_killed_workers_come_back_as_who_they_were_and_miss_nothing(mode: str) -> None:
    with run_workers(2, RECOVERY="1") as server:
        async with Crowd.come(server.url, mode, 30) as crowd:
            await crowd.settled()
            for worker in Children(server).workers[: 2 if mode == "default" else 1]:
                began = time.monotonic()
                os.kill(worker, signal.SIGKILL)
                await until(partial(_is_replaced, server, worker), WITHIN_S)
                told = await crowd.go_on(Children(server).workers)
                say(f"{mode}: all have gone on {time.monotonic() - began:.1f} s after a worker was killed")
            assert total(told, "answered") == 30
            assert total(told, "disconnects") >= (30 if mode == "default" else 1)
            assert [total(told, what) for what in ("lost", "doubled", "fresh")] == [0, 0, 0]


async def test_an_owner_that_is_killed_in_the_middle_of_an_upgrade_costs_nothing() -> None:
    """It has agreed to the upgrade, and dies before it has handed the session over."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))
        stack.enter_context(store_process(f"sqlite:///{folder}/s.db", folder))
        variables = {"ENGINE": f"attached://{folder}/s", "RECOVERY": "1", "PYTHONPATH": str(ROOT)}
        owner, other = (
            stack.enter_context(run_server(APP, engine=None, environment=variables)) for _ in range(2)
        )
        made = Nodes()
        made.urls = [owner.url, other.url]
        async with Raw.connected(made, at=0, via=1) as client:
            answer = json.loads(client.got[-1][2:])
            polling = asyncio.ensure_future(client.get(1))
            async with client.socket(1) as socket:
                await socket.send_str("2probe")
                assert await socket.receive_str() == "3probe"
                assert (await polling)[1] == "6"
                owner.kill()
                await socket.send_str("5")
                assert (await socket.receive(timeout=WITHIN_S)).type is aiohttp.WSMsgType.CLOSE
        async with browser() as http:
            teller, back = Raw(http, made), Raw(http, made)
            await teller.open(1)
            await teller.post(1, "40")
            await teller.until(1, lambda packet: packet.startswith("40"))
            await teller.post(1, f'420["tell","{answer["sid"]}","missed"]')
            await teller.until(1, lambda packet: packet == "430[]")
            await back.open(1)
            await back.post(1, "40" + json.dumps({"pid": answer["pid"]}))
            came, missed = await back.until(1, lambda packet: packet.startswith("42"))
            assert missed.startswith('42["told","missed",')
            assert json.loads(came[2:]) == answer
