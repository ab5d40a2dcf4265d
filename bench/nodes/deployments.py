"""Nodes on one store, of each kind: started, and ended with the block."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bench.nodes.wires import CENTRIFUGAL, PLAIN, SOCKETIO, Wire
from bench.places import PEERS, PYTHON
from bench.processes import descendants, free_port, stop, wait_for_port
from bench.servers import centrifugo_missing, configuration, needs_package
from heartwire.testing.server import run_server
from tools.chaos.stores import STORES, Store

__all__ = ["KINDS", "Deployment", "Kind", "cpu_ns"]

_CONFIG: Final = "connects_per_s = 0\nmax_channels_per_connection = 200000\n"


class Deployment(NamedTuple):
    """Nodes that are up. ``nodes``: port and process of each."""

    nodes: list[tuple[int, int]]
    store: Store
    wire: Callable[[str], Wire]

    def node_cpu_ns(self, number: int) -> int:
        """CPU that a node has used, with its children."""
        return cpu_ns(self.nodes[number][1])

    def store_cpu_ns(self) -> int:
        """CPU that the store has used, with its children."""
        return cpu_ns(self.store.pid)


def cpu_ns(pid: int) -> int:
    """CPU that a process and its children have used."""
    total = 0
    for one in descendants(pid):
        for thread in Path(f"/proc/{one}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # it has just ended
                total += int(thread.read_text().split()[0])
    return total


class Kind(NamedTuple):
    """What is measured.

    Attributes:
        label: in the tables.
        store: of `STORES`.
        start: the nodes, given how many, a store and a folder.
        wire: how they are spoken to, given a channel.
        missing: why it cannot run here.
    """

    label: str
    store: str
    start: Callable[[int, Store, Path], contextlib.AbstractContextManager[list[tuple[int, int]]]]
    wire: Callable[[str], Wire]
    missing: Callable[[], str | None] = lambda: None

    @contextlib.contextmanager
    def running(self, nodes: int) -> Iterator[Deployment]:
        """So many nodes. Outside of any event loop."""
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
            store = stack.enter_context(STORES[self.store].run(folder))
            started = stack.enter_context(self.start(nodes, store, folder))
            yield Deployment(started, store, self.wire)


@contextlib.contextmanager
def _heartwire(nodes: int, store: Store, folder: Path) -> Iterator[list[tuple[int, int]]]:
    with contextlib.ExitStack() as stack:
        run = [run_server(engine=store.url, config=_CONFIG) for _ in range(nodes)]
        servers = [stack.enter_context(one) for one in run]
        yield [(server.port, server.pid) for server in servers]


@contextlib.contextmanager
def _peers(
    nodes: int, folder: Path, command: Callable[[int, Path], list[str]]
) -> Iterator[list[tuple[int, int]]]:
    with contextlib.ExitStack() as stack:
        started = []
        for number in range(nodes):
            port, place = free_port(), folder / f"node{number}"
            place.mkdir()
            log = place / "log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command(port, place), cwd=place, stdout=output, stderr=output, start_new_session=True
                )
            stack.callback(stop, process)
            wait_for_port(process, port, log)
            started.append((port, process.pid))
        yield started


def _socketio(
    nodes: int, store: Store, folder: Path
) -> contextlib.AbstractContextManager[list[tuple[int, int]]]:
    program = [str(PYTHON), str(PEERS / "python_socketio_server.py")]
    return _peers(nodes, folder, lambda port, _: [*program, str(port), store.url])


def _centrifugo(
    nodes: int, store: Store, folder: Path
) -> contextlib.AbstractContextManager[list[tuple[int, int]]]:
    def command(port: int, place: Path) -> list[str]:
        config = configuration("centrifugo_redis.json", place, PORT=port, REDIS=store.url)
        return [os.environ["CENTRIFUGO_BIN"], "--config", config]

    return _peers(nodes, folder, command)


def _own(label: str, store: str) -> Kind:
    return Kind(f"Heartwire, {label}", store, _heartwire, PLAIN)


KINDS: Final = {
    "memory": _own("attached, memory", "memory"),
    "sqlite": _own("attached, SQLite", "sqlite"),
    "valkey": _own("Valkey", "valkey"),
    "valkey-aof": _own("Valkey, appendfsync always", "valkey-aof"),
    "postgres": _own("PostgreSQL", "postgres"),
    "socketio": Kind(
        "python-socketio, Valkey", "valkey", _socketio, SOCKETIO, needs_package("socketio", "redis")
    ),
    "centrifugo": Kind("Centrifugo, Valkey", "valkey", _centrifugo, CENTRIFUGAL, centrifugo_missing),
}
