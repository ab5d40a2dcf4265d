"""`heartwire compare`, run for a moment: nothing lost by ours, every byte accounted for. Never how fast."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from heartwire import connect
from heartwire.compare.plan import KINDS, Kind, Plan, message
from heartwire.compare.subscribers import subscriber
from heartwire.testing.server import COMMAND, ServerProcess, run_server
from tests.integration.certificates import self_signed
from tests.integration.client.tools import until
from tests.unit.compare.test_report import numbers_without_unit

OURS = [kind.name for kind in KINDS if kind.transport is not None]


def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    command = (*COMMAND, "compare", *arguments)
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | extra, timeout=110
    )


def sizes(found: dict[str, Any]) -> dict[str, float]:
    return {name: figure["value"] for name, figure in found.items()}


def check_bytes(report: dict[str, Any]) -> None:
    """The parts add up to the totals, and these to what the proxies have counted."""
    everything = 0.0
    for result in report["transports"].values():
        for phase in ("setup", "stream"):
            for way in ("up", "down"):
                parts = sizes(result[phase][way])
                total = parts.pop("total")
                assert sum(parts.values()) == total
                everything += total
    assert everything == report["check"]["counted_by_proxies"]["value"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_short_comparison(tmp_path: Path) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("json", "html", "svg")}
    options = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    done = run("--seconds", "2", "--subscribers", "2", "--cut", "2", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Latency\n" in done.stdout
    assert files["html"].read_text().startswith("<!doctype html>")
    assert files["svg"].read_text().startswith("<svg")

    report = json.loads(files["json"].read_text())
    assert list(report["transports"]) == [kind.name for kind in KINDS]
    assert list(numbers_without_unit(report)) == []
    check_bytes(report)
    for name, result in report["transports"].items():
        news = sizes(result["news"])
        assert (news["sent"], news["expected"], news["delivered"]) == (20, 40, 40), name
        assert (news["lost"], news["doubled"]) == (0, 0), name
        assert result["stream"]["down"]["opaque"]["value"] == 0
        payload = result["stream"]["down"]["payload"]["value"]
        assert payload == 40 * 64 if name == "bare" else payload > 40 * 64
        assert result["trace"][0]["what"] == "request"
        assert result["idle"]["total"]["value"] > 0, name
    for mode in ("cut", "half_open"):
        for name in OURS:
            fault = report["transports"][name][mode]
            assert (fault["lost"]["value"], fault["doubled"]["value"]) == (0, 0), (mode, name)
            assert fault["caught_up"]["value"] is not None
            assert len(fault["arrivals"]["values"]) == len(fault["arrivals_sent"]["values"]) == 90
        bare = report["transports"]["bare"][mode]
        assert bare["lost"]["value"] >= 10, mode
        assert bare["caught_up"]["note"].startswith("never")
    assert report["transports"]["bare"]["half_open"]["noticed"]["value"] is None
    for name in ("longpoll", "sse", "websocket"):
        assert report["transports"][name]["half_open"]["noticed"]["value"] > 0
    handshakes = {
        name: sizes(result["setup"]["up"])["handshake"] for name, result in report["transports"].items()
    }
    assert {name for name, size in handshakes.items() if size} == {"sse", "websocket", "bare"}
    if sys.platform == "linux":
        assert abs(report["check"]["difference"]["value"]) < 2
        assert all(
            result["cost"]["server_cpu"]["value"] is not None for result in report["transports"].values()
        )

    again = run("--from", str(files["json"]), "--json", "-")
    assert json.loads(again.stdout) == report


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_against_a_server_with_tls(tmp_path: Path) -> None:
    cert, key = map(str, self_signed(tmp_path, "localhost"))  # not the proxies' 127.0.0.1
    with run_server("--tls-cert", cert, "--tls-key", key) as server:
        url = f"https://localhost:{server.port}"
        done = run(
            url, "--count", "10", "--subscribers", "1", "--cut", "0", "--json", "-", SSL_CERT_FILE=cert
        )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    check_bytes(report)
    for result in report["transports"].values():
        news = sizes(result["news"])
        assert (news["delivered"], news["lost"], news["doubled"]) == (10, 0, 0)
        stream = sizes(result["stream"]["down"])
        assert stream["opaque"] == stream["total"] > 640
        assert result["cost"]["headers"]["note"].startswith("TLS")
        assert result["cost"]["server_cpu"]["note"].startswith("not measured")
        assert "cut" not in result or result["cut"] is None
    assert "Bytes include TLS, which hides their parts." in report["notes"]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("ss") is None, reason="ss is not installed")
@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.name != "poll-5s"], ids=lambda kind: kind.name
)
async def test_bytes_are_those_of_ss(server: ServerProcess, channel: str, kind: Kind) -> None:
    for attempt in range(5):
        here = f"{channel}-{attempt}"
        async with (
            subscriber(kind, server.url, here, Plan(), is_short=True) as one,
            connect(server.url) as publisher,
        ):
            loop = asyncio.get_running_loop()
            for number in range(1, 51):
                await publisher.publish(here, message(number, int(loop.time() * 1e6), 200))
            await until(lambda: len(one.numbers) == 50, 20)
            command = ["ss", "-tinOH", "state", "established", f"dport = :{one.network.port}"]
            before = one.meter.read()
            found = (
                await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
            ).stdout
            counted = one.meter.read()
        if counted.connections == len(found.splitlines()):
            break  # else one was given up and made anew, and ss says nothing of those that have ended
    up = sum(int(size) for size in re.findall(r"bytes_sent:(\d+)", found))
    down = sum(int(size) for size in re.findall(r"bytes_received:(\d+)", found))
    if not up:
        pytest.skip("this ss does not count bytes")
    # Meanwhile a poll may have gone out, or been answered.
    assert before.up.total * 0.98 <= up <= counted.up.total * 1.02
    assert before.down.total * 0.98 <= down <= counted.down.total * 1.02


# -- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["http://127.0.0.1:1"],
            (
                "URL = 'http://127.0.0.1:1': cannot be reached: Connect call failed ('127.0.0.1', 1); start"
                " it with"
            ),
        ),
        (["ftp://a"], "URL = 'ftp://a': as in http://127.0.0.1:8000"),
        (["--rate", "1000"], "--rate = 1000.0: 0.1 to 200 messages a second"),
        (
            ["--json", "/nowhere/a.json"],
            "FILE = '/nowhere/a.json': there is no folder /nowhere: make it, or name another",
        ),
        (
            ["--from", "/nowhere/a.json"],
            "--from = '/nowhere/a.json': cannot be read: No such file or directory",
        ),
        (["--from", __file__], f"--from = {__file__!r}: was not written by `heartwire compare --json`"),
    ],
)
def test_errors_name_the_value_and_the_way_out(arguments: list[str], told: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"heartwire: {told}")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_another_server_is_not_taken_for_ours() -> None:
    command = (
        sys.executable,
        "-c",
        (
            "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler);"
            "print(s.server_port, flush=True); s.serve_forever()"
        ),
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as other:
        assert other.stdout is not None
        url = f"http://127.0.0.1:{int(other.stdout.readline())}"
        done = run(url)
        other.kill()
    assert done.returncode == 1
    assert done.stderr.startswith(f"heartwire: URL = '{url}': no Heartwire server that lets us in: ")


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells who is whose child")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_its_servers_end_with_it(number: signal.Signals) -> None:
    with subprocess.Popen(
        (*COMMAND, "compare"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        started: set[str] = set()
        while len(started) < 8 and time.monotonic() < deadline:
            # Each is started by a thread of its own, and is that thread's child.
            for task in Path(f"/proc/{process.pid}/task").iterdir():
                started |= set((task / "children").read_text().split())
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(30) == 130
    assert len(started) == 8
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
