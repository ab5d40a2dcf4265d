"""Start a server on a core of its own, find all its processes, end it; run the load generator on another."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.places import LOAD, WORK
from bench.servers import Server

START_TIMEOUT_S: Final = 15.0
STOP_TIMEOUT_S: Final = 5.0
LOAD_TIMEOUT_S: Final = 120.0
WANTED_FILES: Final = 65536


class RunError(Exception):
    """The server did not start, or the load generator did not finish; the text says why."""


@dataclass(frozen=True)
class Cores:
    """The cores of server and load generator; the same one where there is only one."""

    server: int
    load: int


def choose_cores() -> Cores:
    """Take the first two cores that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1 % len(usable)])


def raise_file_limit() -> int:
    """Raise the limit of open files, also for child processes; return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (max(hard, WANTED_FILES), hard):  # raising the hard limit takes privilege
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
        except (ValueError, OSError):
            continue
    return soft


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def descendants(pid: int) -> list[int]:
    """Return the ids of a process and all its current descendants."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [one for child in children.read_text().split() for one in descendants(int(child))]
        except OSError:
            continue
    return found


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the server accepts connections.

    Raises:
        RunError: it ended, or was not up in time; with its last line of output.
    """
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    # Paths of this machine mean nothing to a reader of the report.
    lines = log.read_text(errors="replace").replace(f"{log.parent}/", "").strip().splitlines()
    raise RunError(f"the server did not start: {lines[-1] if lines else 'it wrote nothing'}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and its children: they are a session of their own, so the group has no other process."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(STOP_TIMEOUT_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
    process.wait()


_ENVIRONMENT: Final = os.environ | {"HEARTWIRE_CONNECTS_PER_S": "0"}
"""All connections come at once, unlike those of real clients; Heartwire admits them all."""


@contextmanager
def running(server: Server, cores: Cores) -> Iterator[tuple[int, list[int]]]:
    """Run a fresh server in a fresh folder; yield its port and its process ids."""
    folder = Path(tempfile.mkdtemp(prefix=f"{server.name}-", dir=WORK))
    port = free_port()
    log = folder / "output.log"
    command = ["taskset", "-c", str(cores.server), *server.command(port, folder)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for_port(process, port, log)
        yield port, descendants(process.pid)
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def run_load(arguments: Sequence[str], port: int, pids: Sequence[int], cores: Cores) -> dict[str, object]:
    """Run the load generator once; return its JSON.

    Raises:
        RunError: it ended with an error or took longer than ``LOAD_TIMEOUT_S``.
    """
    command = ["taskset", "-c", str(cores.load), str(LOAD), *arguments]
    command += ["--port", str(port), "--core", str(cores.server)]
    command += [word for pid in pids for word in ("--pid", str(pid))]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise RunError(f"the load generator took longer than {LOAD_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        raise RunError(done.stderr.strip() or f"the load generator ended with {done.returncode}")
    result: dict[str, object] = json.loads(done.stdout)
    return result
