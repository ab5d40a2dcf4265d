"""Servers of the Durable Streams protocol: the reference server, from npm, and Heartwire."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from typing import Any, Final

import pytest

from heartwire.testing.server import run_server
from tests.js.node import HERE, need_node

__all__ = ["CONFIG", "SERVERS", "stream_server"]

SERVERS: Final = ("reference", "heartwire")

CONFIG: Final = """
durable_poll_s = 1
[namespaces.""]
durable = true
"""


@contextlib.contextmanager
def stream_server(name: str) -> Iterator[str]:
    """Run a server of that name; the address below which it has its streams."""
    if name == "reference":
        with reference_server() as url:
            yield f"{url}/v1/stream"
    else:
        with run_server(config=CONFIG) as server:
            yield f"{server.url}/streams"


@contextlib.contextmanager
def reference_server() -> Iterator[str]:
    """Run it; its address. Without it the test is skipped at a desk, and fails in CI."""
    need_node()
    if not (HERE.parents[1] / "node_modules" / "@durable-streams" / "server").is_dir():
        if os.environ.get("CI"):
            pytest.fail("npm ci has not been run")
        pytest.skip("npm ci installs the reference server")
    command = ["node", str(HERE / "reference.mjs")]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()
