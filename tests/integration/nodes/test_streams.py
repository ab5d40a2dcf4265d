"""Streams of an application that runs in several processes, of which one is killed or replaced meanwhile."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.integration.centrifugal.sdk.harness import free_port
from tests.integration.client.tools import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="stores are shared by Unix sockets"),
]

WITHIN_S: Final = 20
LEASE_S: Final = 1.5
STREAMS: Final = 20
WORDS: Final = [f"word{number} " for number in range(30)]

PROGRAM: Final = """
import asyncio, os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from heartwire import Hub

hub = Hub(os.environ["ENGINE"], allow_anonymous=True, stream_lease_s=1.5, drain_s=0.2)
hub.namespace("answer", durable=True)

async def words(begin=0):
    for number in range(begin, 30):
        await asyncio.sleep(0.08)
        yield f"word{number} "

@hub.producer("answer")
def go_on(name, written):
    return words(len(written))

async def ready(request):
    return PlainTextResponse("ready")

async def chat(request):
    name = "answer:" + request.path_params["id"]
    if request.method == "POST":
        return await hub.stream_response(name, words)
    return await hub.resume_response(name)

routes = [Route("/ready", ready), Route("/chat/{id}", chat, methods=["GET", "POST"])]
app = Starlette(routes=routes, lifespan=hub.lifespan)
"""


class _Worker:
    """A process of the application."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = (folder / f"log{port}").open("wb")
        command = [sys.executable, "-m", "uvicorn", "program:app", "--port", str(port)]
        environment = os.environ | {"ENGINE": f"sqlite:///{folder}/db?shared=yes", "TMPDIR": str(folder)}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=self._log, stderr=self._log
        )

    async def up(self, http: aiohttp.ClientSession) -> None:
        async with asyncio.timeout(WITHIN_S):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{self.url}/ready"):
                        return
                await asyncio.sleep(0.05)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()


@contextlib.asynccontextmanager
async def application() -> AsyncIterator[tuple[aiohttp.ClientSession, Callable[[], Awaitable[_Worker]]]]:
    """Yields a session, and what starts a worker."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
        (folder / "program.py").write_text(PROGRAM)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as http:

            async def start() -> _Worker:
                worker = _Worker(folder)
                stack.callback(worker.end)
                await worker.up(http)
                return worker

            yield http, start


class Reader:
    """Reads an answer to its end, as a page does: where it breaks off, from the beginning, elsewhere."""

    def __init__(self, http: aiohttp.ClientSession, id: int) -> None:
        self._http = http
        self._id = id
        self.text = ""
        self.ended_at = 0.0

    async def read(self, at: _Worker, then: _Worker) -> None:
        method, worker = "POST", at
        async with asyncio.timeout(WITHIN_S):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with self._http.request(method, f"{worker.url}/chat/{self._id}") as answer:
                        assert answer.status in (200, 503)
                        self.text = ""
                        async for piece in answer.content.iter_any():
                            self.text += piece.decode()
                        if answer.status == 200:
                            self.ended_at = time.monotonic()
                            return
                method, worker = "GET", then
                await asyncio.sleep(0.05)


async def under_way(readers: list[Reader]) -> None:
    await until(lambda: all(len(reader.text) > len(WORDS[0]) for reader in readers), WITHIN_S)


async def test_readers_of_a_process_that_is_killed_hear_of_it_within_its_lease() -> None:
    async with application() as (http, start):
        one, other = await start(), await start()
        readers = [Reader(http, number) for number in range(STREAMS)]
        reading = [
            asyncio.ensure_future(reader.read((one, other)[reader._id % 2], other)) for reader in readers
        ]
        await under_way(readers)
        one.process.kill()
        killed_at = time.monotonic()
        await asyncio.gather(*reading)
        lost, kept = readers[::2], readers[1::2]
        assert {reader.text for reader in kept} == {"".join(WORDS)}
        for reader in lost:
            so_far = reader.text.removesuffix("\n[interrupted]\n")
            assert so_far != reader.text
            assert len(so_far) > len(WORDS[0])
            assert "".join(WORDS).startswith(so_far)
            assert reader.ended_at - killed_at < LEASE_S + 1


async def test_streams_of_a_process_that_is_replaced_are_handed_over_and_whole() -> None:
    async with application() as (http, start):
        one, other = await start(), await start()
        readers = [Reader(http, number) for number in range(STREAMS)]
        reading = [asyncio.ensure_future(reader.read(one, other)) for reader in readers]
        await under_way(readers)
        one.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*reading)
        assert {reader.text for reader in readers} == {"".join(WORDS)}
        assert await asyncio.to_thread(one.process.wait, WITHIN_S) in (0, -signal.SIGTERM)
