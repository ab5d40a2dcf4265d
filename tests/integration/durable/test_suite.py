"""The public suite of the Durable Streams protocol, whole but for subscriptions, on each engine."""

import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from heartwire.testing.server import run_server
from tests.js.node import need_node

SUITE: Final = Path(__file__).parent / "suite"
TESTS: Final = 332
"""In version 0.3.6."""

CONFIG: Final = """
durable_path = "/v1/stream"
durable_poll_s = 1
allowed_origins = ["*"]
[namespaces.""]
durable = true
"""


@pytest.fixture(params=["memory", "sqlite", "valkey", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    """The address of a store."""
    if request.param == "valkey":
        return f"{request.getfixturevalue('valkey').url}?prefix={secrets.token_hex(4)}"
    if request.param == "postgres":
        return f"{request.getfixturevalue('postgres').url}&schema=durable_{secrets.token_hex(4)}"
    return "sqlite:///streams.db" if request.param == "sqlite" else "memory"


def need_suite() -> None:
    """Without Node and its packages the test is skipped."""
    need_node()
    if not (SUITE / "node_modules").exists():
        pytest.skip("the suite is not installed: make test does that")


def run(url: str, report: Path) -> list[dict[str, Any]]:
    """Run the suite. Returns what became of each test."""
    vitest = SUITE / "node_modules" / "vitest" / "vitest.mjs"
    command = ["node", str(vitest), "run", "--reporter=json", f"--outputFile={report}", "--retry=2"]
    # Most of them wait: for time to pass, and for what does not come. Some wait for half a second at most, or
    # two, which a busy machine may take.
    command += ["--sequence.concurrent", "--maxConcurrency=6", "--testTimeout=60000"]
    ended = subprocess.run(
        command, cwd=SUITE, env=os.environ | {"SERVER_URL": url}, capture_output=True, text=True, timeout=120
    )
    if not report.exists():
        pytest.fail(ended.stdout + ended.stderr)
    made = [
        test for file in json.loads(report.read_text())["testResults"] for test in file["assertionResults"]
    ]
    return [test for test in made if test["status"] not in ("skipped", "pending")]


def test_the_public_suite(engine: str, tmp_path: Path) -> None:
    need_suite()
    with run_server(engine=engine, config=CONFIG) as server:
        results = run(server.url, tmp_path / "report.json")
        assert "Traceback" not in server.log
    failed = [
        f"{test['fullName']}: {'; '.join(test['failureMessages'])[:500]}"
        for test in results
        if test["status"] != "passed"
    ]
    assert failed == []
    assert len(results) == TESTS
