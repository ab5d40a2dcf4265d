"""The stores that nodes share here, and what each has when it was killed."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from heartwire.testing.stores import PostgresServer, ValkeyServer, run_postgres, run_valkey
from tools.chaos.verdict import Kept

__all__ = ["STORES", "Store", "StoreKind"]

_READY_S: Final = 20


class Store(Protocol):
    """A store to kill. ``url``: for ``--engine`` of its nodes."""

    @property
    def url(self) -> str: ...

    @property
    def pid(self) -> int: ...

    def start(self) -> None:
        """Start it again on what it has, and wait until it can be reached."""

    def kill(self) -> None:
        """Send SIGKILL and wait for the end. Idempotent."""


class AttachedStore:
    """`heartwire.store`, with this engine, on a socket in ``folder``."""

    def __init__(self, engine: str, folder: Path) -> None:
        self.url = f"attached://{folder}/s"
        self._engine = engine
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        command = [sys.executable, "-m", "heartwire.store", "--engine", self._engine, "--socket", "s"]
        with (self._folder / "store.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command, cwd=self._folder, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _READY_S
        while not self._is_listening():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the store did not start:\n{(self._folder / 'store.log').read_text()}")
            time.sleep(0.01)

    def _is_listening(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._folder / "s")) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class _Server(NamedTuple):
    """A server of `heartwire.testing.stores`."""

    server: ValkeyServer | PostgresServer
    start: Callable[[], None]

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def pid(self) -> int:
        return self.server.pid

    def kill(self) -> None:
        self.server.kill()


# -- to run them ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _attached(engine: str, folder: Path) -> Iterator[Store]:
    store = AttachedStore(engine, folder)
    try:
        store.start()
        yield store
    finally:
        store.kill()


@contextlib.contextmanager
def _valkey(aof: str, folder: Path) -> Iterator[Store]:
    with asyncio.Runner() as runner:
        running = run_valkey(aof=aof)
        server = runner.run(running.__aenter__())
        try:
            yield _Server(server, lambda: asyncio.run(server.start()))
        finally:
            runner.run(running.__aexit__(None, None, None))


@contextlib.contextmanager
def _postgres(folder: Path) -> Iterator[Store]:
    with run_postgres() as server:
        yield _Server(server, server.restart)


class StoreKind(NamedTuple):
    """A store by name.

    Attributes:
        run: runs one, with a folder of its own, as long as the block; outside of any event loop.
        kept: of what it had answered, when it was killed.
    """

    run: Callable[[Path], contextlib.AbstractContextManager[Store]]
    kept: Kept


STORES: Final = {
    "memory": StoreKind(partial(_attached, "memory"), Kept.NOTHING),
    "sqlite": StoreKind(partial(_attached, "sqlite:///store.db"), Kept.ALL),
    "valkey": StoreKind(partial(_valkey, ""), Kept.NOTHING),
    "valkey-aof": StoreKind(partial(_valkey, "always"), Kept.RENAMED),
    "postgres": StoreKind(_postgres, Kept.ALL),
}
