"""The official suites of Engine.IO and Socket.IO against Heartwire: ``make suites SOCKETIO=checkout``.

``checkout`` is one of the repository socketio/socket.io; the suites are in its ``docs``, and want port 3000
of localhost. They are copied, installed by npm, and run ``--times`` times on each door. The exit code is 1
where a test fails.
"""

import argparse
import asyncio
import multiprocessing
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import uvicorn

import heartwire.socketio as socketio
from heartwire import Hub
from heartwire.dialects.socketio.engine_io import Parcel
from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.server.socketio import server as module

__all__ = ["main"]

PORT: Final = 3000
SUITES: Final = {
    "engine.io": "docs/engine.io-protocol/v4-test-suite",
    "socket.io": "docs/socket.io-protocol/v5-test-suite",
}
_TIMES: Final[Any] = {
    "ping_interval": 0.3,
    "ping_timeout": 0.2,
    "connect_timeout": 1,
    "cors_allowed_origins": "*",
}


class _Echo:
    """The layer that the suite of Engine.IO wants above it."""

    sockets: Any = ()
    has_asked = True

    def __init__(self, engine: EngineSession, port: object) -> None:
        self.engine = engine

    def message(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        self.engine.send(Parcel([(is_text, b"4" + data if is_text else data)]))
        return None

    def closed(self, reason: str) -> None:
        pass


def engine_io() -> Hub:
    """A server that echoes."""
    setattr(module, "ClientSession", _Echo)  # noqa: B010 - the type of the layer is another
    return socketio.AsyncServer(Hub(socketio_path="/engine.io"), **_TIMES).hub


def socket_io() -> Hub:
    """A server as the suite of Socket.IO wants it."""
    sio = socketio.AsyncServer(**_TIMES)

    def joins(namespace: str) -> None:
        @sio.on("connect", namespace=namespace)
        async def connect(sid: str, environ: object, auth: object) -> None:
            await sio.emit("auth", auth or {}, to=sid, namespace=namespace)

    joins("/")
    joins("/custom")

    @sio.on("message")
    async def message(sid: str, *arguments: object) -> None:
        await sio.emit("message-back", arguments, to=sid)

    sio.on("message-with-ack", lambda sid, *arguments: arguments)
    return sio.hub


def _serve(make: Callable[[], Hub], is_native: bool) -> None:
    hub = make()
    doors: dict[str, Any] = {"http": hub.http_class(), "ws": hub.websocket_class()} if is_native else {}
    uvicorn.run(hub.asgi(), host="localhost", port=PORT, log_level="warning", **doors)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.socketio_suites", description=__doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of socketio/socket.io")
    parser.add_argument("--times", type=int, default=5, metavar="N", help="how often (5)")
    given = parser.parse_args(arguments)
    failed = False
    for name, make in (("engine.io", engine_io), ("socket.io", socket_io)):
        with tempfile.TemporaryDirectory() as folder:
            suite = Path(folder) / name
            shutil.copytree(given.checkout / SUITES[name], suite)
            subprocess.run(["npm", "ci", "--silent", "--ignore-scripts"], cwd=suite, check=True)  # noqa: S607
            for is_native in (True, False):
                for _ in range(given.times):
                    failed |= not asyncio.run(_run(name, make, suite, is_native))
    return 1 if failed else 0


async def _run(name: str, make: Callable[[], Hub], suite: Path, is_native: bool) -> bool:
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(make, is_native))
    server.start()
    try:
        await _answers()
        run = await asyncio.create_subprocess_exec(
            "node", "node_modules/mocha/bin/mocha", "test-suite.js", cwd=suite, stdout=asyncio.subprocess.PIPE
        )
        out = (await asyncio.wait_for(run.communicate(), 60))[0].decode()
    finally:
        server.kill()
        server.join()
    counts = re.findall(r"\d+ (?:passing|failing)", out)
    sys.stdout.write(f"{name}, {'native' if is_native else 'ASGI'}: {', '.join(counts)}\n")
    if run.returncode:
        sys.stdout.write(out)
    return run.returncode == 0


async def _answers() -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("localhost", PORT)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


if __name__ == "__main__":
    sys.exit(main())
