"""``?shared=yes`` in the workers of other servers; and streams in memory, which these workers must not have."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from heartwire.engines import on_demand
from heartwire.engines.attached import AttachedEngine
from heartwire.engines.contract import Feed, Retention
from heartwire.engines.registry import open_engine
from heartwire.errors import ConfigError, EngineCorrupt, EngineUnavailable
from heartwire.types import EARLIEST, Channel, Message
from tests.integration.centrifugal.sdk.harness import free_port
from tests.integration.client.tools import say, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc"),
]

WITHIN_S: Final = 20
A: Final = Channel("a")
KEEP: Final = Retention(1000, 3600)

PROGRAM: Final = """
import os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from heartwire import Hub

hub = Hub(os.environ["ENGINE"])
async def pid(request):
    return PlainTextResponse(f"{os.getpid()} {hub.node.engine.node}")
app = Starlette(routes=[Route("/pid", pid), Mount("/", hub.asgi())], lifespan=hub.lifespan)
"""

SERVERS: Final[dict[str, list[str]]] = {
    "uvicorn": ["uvicorn", "program:app", "--port", "{port}", "--workers", "{workers}"],
    "gunicorn": [
        *("gunicorn", "program:app", "-k", "uvicorn_worker.UvicornWorker"),
        *("-b", "127.0.0.1:{port}", "-w", "{workers}", "--preload"),
    ],
    "hypercorn": ["hypercorn", "program:app", "-b", "127.0.0.1:{port}", "-w", "{workers}"],
    "granian": [
        *("granian", "program:app", "--interface", "asgi"),
        *("--port", "{port}", "--workers", "{workers}"),
    ],
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one, for the names of sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@contextlib.contextmanager
def server(name: str, engine: str, folder: Path, workers: int = 2) -> "Iterator[tuple[str, Path, Any]]":
    """A server of another kind. Yields its URL, its log and its process."""
    port = free_port()
    (folder / "program.py").write_text(PROGRAM)
    words = [word.format(port=port, workers=workers) for word in SERVERS[name]]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=folder,
            env=os.environ | {"ENGINE": engine, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}", log, process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


async def ask(url: str, body: str | None = None) -> str:
    """The answer of some worker, once one answers."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                headers = {"Content-Type": "text/plain", "Idempotency-Key": body or "-"}
                method = "GET" if body is None else "POST"
                async with aiohttp.request(method, url, data=body, headers=headers) as answer:
                    if answer.status == 200:
                        return await answer.text()
            await asyncio.sleep(0.02)


def store_of(socket_path: Path) -> int:
    """The process that listens there, or is about to; 0: none."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = place.read_bytes().split(b"\0")
            if os.fsencode(socket_path) in words and b"heartwire.store" in words:
                return int(place.parent.name)
    return 0


# -- workers of other servers --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn"])
async def test_workers_of_other_servers_share_a_store_that_ends_after_them(name: str, folder: Path) -> None:
    place = folder / "s.db.sock"
    with server(name, "sqlite:///s.db?shared=yes", folder) as (url, log, _):
        nodes: dict[str, str] = {}

        async def both() -> bool:
            pid, node = (await ask(f"{url}/pid")).split()
            nodes[pid] = node
            return len(nodes) == 2

        async with asyncio.timeout(WITHIN_S):
            while not await both():
                pass
        assert len(set(nodes.values())) == 2, "nodes of their own, though a fork made the hub"
        for number in range(6):
            await ask(f"{url}/channels/a", f"m{number}")
        store = store_of(place)
        assert place.stat().st_mode & 0o777 == 0o600
        os.kill(store, signal.SIGKILL)
        began = time.monotonic()
        await ask(f"{url}/channels/a", "last")
        say(f"shared store killed: {time.monotonic() - began:.2f} s")
        for _ in range(4):
            assert (await ask(f"{url}/channels/a?since=earliest")).count('"data"') == 7
        assert store_of(place) != store
        assert "Traceback" not in log.read_text()
    # One that has no node ends by itself: it is not waited for here, and asked to.
    with contextlib.suppress(ProcessLookupError):
        os.kill(store_of(place) or 2**22, signal.SIGTERM)
    await until(lambda: not store_of(place))
    assert not place.exists()


async def test_memory_is_shared_by_the_workers_of_a_server(folder: Path) -> None:
    with server("uvicorn", "memory://?shared=yes", folder) as (url, _, process):
        for number in range(8):
            await ask(f"{url}/channels/a", f"m{number}")
            assert (await ask(f"{url}/channels/a?since=earliest")).count('"data"') == number + 1
        place = folder / f"heartwire-{os.getuid()}"
        assert place.stat().st_mode & 0o777 == 0o700
        assert (place / f"parent-{process.pid}.sock").exists()
        os.kill(store_of(place / f"parent-{process.pid}.sock"), signal.SIGINT)


# -- apart ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVERS)
async def test_streams_in_memory_are_refused_in_one_of_several_workers(name: str, folder: Path) -> None:
    with server(name, "memory", folder) as (_, log, _):
        why = f"{name} has several workers, each of which would have streams of its own: say memory://?shared=yes"
        await until(lambda: why in log.read_text(), WITHIN_S, log.read_text)


@pytest.mark.parametrize("name", SERVERS)
async def test_one_worker_may_have_streams_in_memory(name: str, folder: Path) -> None:
    with server(name, "memory", folder, workers=1) as (url, log, _):
        await ask(f"{url}/channels/a", "x")
        assert "several workers" not in log.read_text()


async def test_that_streams_are_meant_to_be_apart_can_be_said(folder: Path) -> None:
    with server("uvicorn", "memory://?shared=no", folder) as (url, _, _):
        await ask(f"{url}/channels/a", "x")


# -- the engine itself ---------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def shared(url: str) -> AsyncIterator[AttachedEngine]:
    engine = open_engine(url)
    assert isinstance(engine, AttachedEngine)
    await engine.start(Feed())
    try:
        yield engine
    finally:
        await engine.stop()


async def test_many_that_start_at_once_have_one_store_and_it_ends_after_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_demand, "LINGER_S", 0.1)
    url = f"sqlite:///{folder}/s.db?shared=yes&synchronous=full"
    async with contextlib.AsyncExitStack() as stack:
        engines = await asyncio.gather(*(stack.enter_async_context(shared(url)) for _ in range(4)))
        positions = [await one.append(A, Message(b"x"), KEEP) for one in engines]
        assert [position.offset for position in positions] == [1, 2, 3, 4]
        with pytest.raises(EngineUnavailable, match=r"in use by another process: .*shared=yes.*--workers"):
            await open_engine(f"sqlite:///{folder}/s.db").start(Feed())
    await until(lambda: not store_of(folder / "s.db.sock"))
    async with shared(url) as engine:  # another store, the same streams
        result = await engine.read(A, EARLIEST, KEEP, limit=9, max_bytes=99)
        assert [one.position for one in result.publications] == positions
    await until(lambda: not store_of(folder / "s.db.sock"))


async def test_what_keeps_a_store_from_starting_is_said(folder: Path) -> None:
    (folder / "s.db").write_text("a file of somebody")
    with pytest.raises(EngineCorrupt, match="is not a SQLite database"):
        await open_engine(f"sqlite:///{folder}/s.db?shared=yes").start(Feed())
    with pytest.raises(EngineUnavailable, match="No such file or directory"):
        await open_engine(f"sqlite:///{folder}/none/s.db?shared=yes").start(Feed())


def test_names_that_cannot_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url, why in (
        (f"sqlite:///{folder}/{'x' * 100}/s.db?shared=yes", "a Unix socket has a path of at most"),
        ("sqlite:///s.db?shared=yes&other=1", "shared=yes at most"),
        ("memory://a%20b?shared=yes", "letters, digits"),
        ("memory://a/b?shared=yes", "letters, digits"),
        ("memory://?shared=yes&max_bytes=0", "max_bytes=N"),
        ("memory://?shared=maybe", "shared=yes at most"),
    ):
        with pytest.raises(ConfigError, match=why):
            open_engine(url)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert open_engine("memory://a?shared=yes").path == folder / f"heartwire-{os.getuid()}" / "a.sock"  # type: ignore[attr-defined]
    (folder / f"heartwire-{os.getuid()}").chmod(0o755)
    with pytest.raises(ConfigError, match="a folder of yours with the mode 0700"):
        open_engine("memory://a?shared=yes")
