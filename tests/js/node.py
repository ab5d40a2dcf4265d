"""Runs programs for Node that are beside this file."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

__all__ = ["HERE", "MODULE", "in_js", "need_node", "need_packages", "node"]

HERE: Final = Path(__file__).parent
MODULE: Final = HERE.parents[1] / "src" / "heartwire" / "web" / "heartwire.js"


def need_node() -> None:
    """Without Node the test is skipped at a desk, and fails in CI."""
    if shutil.which("node") is None:
        if os.environ.get("CI"):
            pytest.fail("the tests of heartwire.js need node")
        pytest.skip("heartwire.js needs node to be tested")


def need_packages() -> None:
    """The same where what package.json names is not installed: `make test` does it, where npm is."""
    need_node()
    if not (HERE.parents[1] / "node_modules" / "ai").exists():
        if os.environ.get("CI"):
            pytest.fail("npm ci has not run")
        pytest.skip("npm ci has not run")


def node(program: str | Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. Its first argument is where `heartwire.js` is."""
    need_node()
    command = ["node", str(HERE / program), str(MODULE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def in_js(options: dict[str, Any]) -> dict[str, Any]:
    """Options under the names that they have in JavaScript."""
    return {re.sub("_(.)", lambda found: found[1].upper(), name): value for name, value in options.items()}
