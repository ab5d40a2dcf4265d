"""Real servers for tests: `heartwire serve` as a process to kill, and uvicorn on the running event loop."""

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn

from heartwire.hub.hub import Hub
from heartwire.server.config import Settings
from heartwire.server.run import uvicorn_config

__all__ = ["COMMAND", "ServerProcess", "run_server", "serving"]

COMMAND: Final = (sys.executable, "-m", "heartwire")
"""The `heartwire` command of this interpreter."""

_BANNER: Final = re.compile(r"Heartwire is up at (\S+)")
_READY_S: Final = 20


class ServerProcess:
    """One `heartwire serve`, which keeps its port over restarts. Made by `run_server`.

    Attributes:
        url: as in its banner; "unix:PATH" on a Unix socket.
    """

    def __init__(self, arguments: tuple[str, ...], environment: Mapping[str, str], folder: Path) -> None:
        self.url = ""
        self.folder = folder
        self._arguments = arguments
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEARTWIRE_")}
        self._environment = inherited | {"PYTHONUNBUFFERED": "1", **environment}
        self._lines: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._is_up = False

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything the server has written to stderr, over all its lives."""
        return "".join(self._lines)

    @property
    def rss_bytes(self) -> int:
        """The process's resident memory. Linux only."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def start(self) -> None:
        """Start it, and wait until it accepts connections. Raises ``RuntimeError`` with its log otherwise."""
        port = () if "--uds" in self._arguments else ("--port", str(self.port))
        ready = threading.Event()
        self._is_up = False
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            (*COMMAND, "serve", *self._arguments, *port),
            env=self._environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process, ready), daemon=True)
        self._reader.start()
        if not ready.wait(_READY_S) or not self._is_up:
            self.kill()  # a process that fails may have ended its log, and not itself yet
            raise RuntimeError(f"the server did not start:\n{self.log}")

    def kill(self) -> None:
        """Send SIGKILL and wait for the end. Idempotent."""
        self.stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM, *, within_s: float = 10) -> int:
        """Send a signal and wait for the end. Returns the exit code.

        Raises ``subprocess.TimeoutExpired`` after ``within_s`` seconds, and kills it.
        """
        assert self._process is not None
        self._process.send_signal(number)
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        if self._reader is not None:
            self._reader.join()
        return code

    def restart(self) -> None:
        """Kill it, and start it on the same port with the same options."""
        self.kill()
        self.start()

    def _read(self, process: "subprocess.Popen[str]", ready: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self._lines.append(line)
                if banner := _BANNER.search(line):
                    self.url = banner[1]
                    self._is_up = True
                    ready.set()
        ready.set()  # it ended


@contextlib.contextmanager
def run_server(
    *arguments: str,
    engine: str | None = "memory",
    config: str = "",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[ServerProcess]:
    """Run `heartwire serve` in a process of its own, on a free port, and kill it at the end.

    Args:
        arguments: more flags of `heartwire serve`, or ``MODULE:HUB``.
        engine: None where ``arguments`` or the hub name it.
        config: the text of a configuration file.
        environment: more variables; it does not inherit ``HEARTWIRE_*`` of this process.
        folder: its working directory; default: a temporary one.
    """
    with contextlib.ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="heartwire-")))
        flags: tuple[str, ...] = () if engine is None else ("--engine", engine)
        if config:
            (place / "heartwire.toml").write_text(config, encoding="utf-8")
            flags += ("--config", "heartwire.toml")
        server = ServerProcess((*flags, *arguments), environment or {}, place)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextlib.asynccontextmanager
async def serving(
    app: Any, *, hub: Hub | None = None, settings: Settings | None = None
) -> AsyncIterator[str]:
    """Serve a `Hub` or any ASGI application with uvicorn on the running event loop. Yields the URL.

    Args:
        app: a hub is served as by `heartwire serve`, an application as by plain uvicorn.
        hub: the hub in the application, to drain before the server stops.
        settings: those of `heartwire serve`; default: the hub's options.
    """
    if isinstance(app, Hub):
        hub = app
        options = {name: getattr(hub.options, name) for name in hub.options.__struct_fields__}
        config = uvicorn_config(settings or Settings(**options), hub)
        _restore_logging()
    else:
        config = uvicorn.Config(app, ws="websockets-sansio", lifespan="on", log_config=None)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = _Server(config)
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    started = asyncio.ensure_future(server.ready.wait())
    try:
        await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if task.done():
            task.result()
            raise RuntimeError("the server did not start; its log says why")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        if hub is not None:
            hub.drain()
        server.should_exit = True
        await asyncio.wait([task])
        listener.close()


class _Server(uvicorn.Server):
    """uvicorn that reports when it is up and leaves the program's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def _restore_logging() -> None:
    """Remove the handlers of a server process, so that a test's own capture sees the lines."""
    for name in ("heartwire", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
