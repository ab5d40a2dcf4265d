"""The reference server of the Durable Streams protocol, from npm."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.js.node import HERE, need_node

__all__ = ["reference_server"]


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
