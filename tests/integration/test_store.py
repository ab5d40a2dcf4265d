"""The store as a process of its own: it is killed, and started again on the same file."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from heartwire.engines.attached import AttachedEngine
from heartwire.engines.contract import Feed, Retention
from heartwire.errors import EngineUncertain
from heartwire.types import EARLIEST, Channel, Message, Position, Publication

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it listens on a Unix socket")

A = Channel("a")
KEEP = Retention(1000, 3600)


@contextlib.contextmanager
def store(folder: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A store process; whoever attaches waits until it listens."""
    command = [sys.executable, "-m", "heartwire.store", "--engine", "sqlite:///s.db", "--socket", "s"]
    with subprocess.Popen(command, cwd=folder) as process:
        yield process
        process.kill()


async def test_a_killed_store_has_all_that_was_answered_and_its_nodes_go_on() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        engine = AttachedEngine(Path(folder, "s"), patience_s=30)
        told: list[Publication] = []
        behind: list[tuple[Channel, Position]] = []
        with store(folder):
            await engine.start(Feed(told.append, lambda *about: behind.append(about)))
            engine.watch(A)
            answered = [await engine.append(A, Message(b"%d" % number), KEEP) for number in range(50)]
            under_way = engine.append(A, Message(b"last"), KEEP, key="k")
        with store(folder):
            with contextlib.suppress(EngineUncertain):  # it may just have been answered
                await under_way
            last = await engine.append(A, Message(b"last"), KEEP, key="k")
            result = await engine.read(A, EARLIEST, KEEP, limit=100, max_bytes=10_000)
            await engine.stop()
    assert [publication.position for publication in result.publications] == [*answered, last]
    assert last == Position(answered[0].epoch, 51)
    assert [channel for channel, _ in behind] == [A]
    assert [publication.position for publication in told][:50] == answered
