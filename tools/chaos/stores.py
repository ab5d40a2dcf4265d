"""The stores that nodes share here, and what each has when it was killed."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from tools.chaos.verdict import Kept

__all__ = ["STORES", "Store", "StoreKind"]


_READY_S: Final = 20


class Store(Protocol):
    """A store to kill. ``url``: for ``--engine`` of its nodes."""

    url: str

    def start(self) -> None:
        """Start it, or start it again on what it has, and wait until it can be reached."""

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


class StoreKind(NamedTuple):
    """A store by name. ``kept``: of what it has answered, when it was killed."""

    make: Callable[[Path], Store]
    kept: Kept


STORES: Final = {
    "memory": StoreKind(lambda folder: AttachedStore("memory", folder), Kept.NOTHING),
    "sqlite": StoreKind(lambda folder: AttachedStore("sqlite:///chaos.db", folder), Kept.ALL),
}
