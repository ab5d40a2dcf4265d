"""Servers on one store, each a process, as on a host."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from heartwire.testing.server import ServerProcess, run_server

__all__ = ["deployment", "store_process"]


@contextlib.contextmanager
def store_process(engine: str, folder: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A store; whoever attaches to ``FOLDER/s`` waits until it listens."""
    command = [sys.executable, "-m", "heartwire.store", "--engine", engine, "--socket", "s"]
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def deployment(count: int = 2, *, engine: str = "memory", config: str = "") -> Iterator[list[ServerProcess]]:
    """So many servers, on a store of their own."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))
        stack.enter_context(store_process(engine, folder))
        start = [run_server(engine=f"attached://{folder}/s", config=config) for _ in range(count)]
        yield [stack.enter_context(one) for one in start]
