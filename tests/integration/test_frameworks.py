"""Servers and frameworks: the session in a cookie is read on every transport, and nothing is lost."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

import heartwire
from heartwire.client.options import Options, Transport
from tests.integration.centrifugal.sdk.harness import free_port

ROOT: Final = Path(__file__).parents[2]
APPS: Final = "tests.integration.frameworks.apps"
FRAMEWORKS: Final = ("starlette", "fastapi", "django")
TRANSPORTS: Final = ("websocket", "sse", "longpoll", "poll")
READY_S: Final = 30
ROUNDS: Final = 5
OPTIONS: Final = Options(poll_interval_s=0.1)

SERVERS: Final[dict[str, list[str]]] = {
    "native-sync": [APPS, "{port}", "/sync"],
    "native-async": [APPS, "{port}", "/async"],
    "uvicorn": ["uvicorn", f"{APPS}:app", "--port", "{port}", "--log-level", "warning", "--lifespan", "on"],
    "hypercorn": ["hypercorn", f"{APPS}:app", "--bind", "127.0.0.1:{port}"],
    "granian": [
        "granian",
        f"{APPS}:app",
        "--interface",
        "asgi",
        "--port",
        "{port}",
        "--log-level",
        "warning",
    ],
    "daphne": ["daphne", f"{APPS}:app", "-b", "127.0.0.1", "-p", "{port}", "-v", "0"],
}
"""Modules and their arguments."""


@contextlib.asynccontextmanager
async def running(server: str, framework: str, log: Path) -> AsyncIterator[str]:
    """A server process, once it answers. Yields its URL."""
    port = free_port()
    words = [word.format(port=port) for word in SERVERS[server]]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "FRAMEWORK": framework},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            await until_ready(f"{url}/async/health", process, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def read(log: Path) -> str:
    return log.read_text(errors="replace")


async def until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    async with asyncio.timeout(READY_S), aiohttp.ClientSession() as http:
        while True:
            assert process.poll() is None, read(log)
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    assert answer.status == 200, (answer.status, read(log))
                    return
            await asyncio.sleep(0.05)  # between attempts to connect, until it listens


async def log_in(url: str) -> str:
    """The cookie of a session."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/login") as answer:
        assert answer.status == 200, await answer.text()
        return "; ".join(f"{name}={morsel.value}" for name, morsel in answer.cookies.items())


async def talk(url: str, cookie: str, transport: Transport) -> None:
    """Publish and receive over one transport: in order, each once, as the user of the session."""
    channel = f"room-{transport}"
    sent = [f"message {number}" for number in range(ROUNDS)]
    client = heartwire.connect(url, headers={"Cookie": cookie}, transports=[transport], options=OPTIONS)
    async with client, client.subscribe(channel) as subscription:
        await subscription.ready()
        for text in sent:
            await client.publish(channel, text)
        got = [await anext(subscription) for _ in range(ROUNDS)]
    assert [(one.data, one.user) for one in got] == [(text, "ann") for text in sent]


async def is_refused(url: str) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(f"{url}/channels/a") as socket:
            assert (await socket.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
            assert socket.close_code == 3500
        async with http.get(f"{url}/channels/a") as answer:
            assert answer.status == 401


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("server", SERVERS)
async def test_all_transports_read_the_session(server: str, framework: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with running(server, framework, log) as url:
        cookie = await log_in(url)
        prefixes = [server.replace("native-", "/")] if "native" in server else ["/sync", "/async"]
        async with asyncio.timeout(READY_S):
            await asyncio.gather(
                *(is_refused(url + prefix) for prefix in prefixes),
                *(talk(url + prefix, cookie, one) for prefix in prefixes for one in TRANSPORTS),
            )
    assert "Traceback" not in read(log), read(log)
