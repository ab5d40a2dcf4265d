"""`make soak`: peers that misbehave against a server of its own. Prints, for each scenario of `tools.soaks`:

* the server's memory (RSS) above that of the idle node, at its peak;
* the seconds until the last of the peers is given up;
* the worst wait of a well-behaved neighbour's echo, one every 100 ms.
"""

import argparse
import asyncio
import contextlib
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing import Process
from pathlib import Path

from aiohttp import ClientSession

from tools.soaks import http, sockets

Scenario = Callable[[int, int], Awaitable[None]]

SCENARIOS: dict[str, Scenario] = {**sockets.SCENARIOS, **http.SCENARIOS}


@contextlib.contextmanager
def _server(ping_interval_s: float, pong_timeout_s: float) -> Iterator[tuple[int, int]]:
    """A server; its port and process."""
    options = [f"--ping-interval-s={ping_interval_s:g}", f"--pong-timeout-s={pong_timeout_s:g}"]
    command = [sys.executable, "-m", "heartwire", "serve", "--port=0", "--engine=memory", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            found = next(found for line in server.stdout if (found := re.search(r"http://\S+?:(\d+)", line)))
            yield int(found[1]), server.pid
        finally:
            server.kill()


def _rss_mib(pid: int) -> float:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _misbehave(name: str, port: int, peers: int) -> None:
    asyncio.run(SCENARIOS[name](port, peers))  # type: ignore[arg-type]


async def _measure(name: str, port: int, pid: int, peers: int, longest_s: float) -> str:
    idle_mib = peak_mib = _rss_mib(pid)
    worst_s = 0.0
    began = time.monotonic()
    async with (
        ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/channels/quiet") as ws,
    ):
        crowd = Process(target=_misbehave, args=(name, port, peers), daemon=True)
        crowd.start()
        while crowd.is_alive() and time.monotonic() - began < longest_s:
            asked = time.monotonic()
            await ws.send_str("x")
            await ws.receive()
            worst_s = max(worst_s, time.monotonic() - asked)
            peak_mib = max(peak_mib, _rss_mib(pid))
            await asyncio.sleep(max(0.0, asked + 0.1 - time.monotonic()))
        ended = not crowd.is_alive()
        crowd.kill()
    took_s = time.monotonic() - began
    end = f"all given up after {took_s:.0f} s" if ended else f"not all given up in {took_s:.0f} s"
    return f"{name:12} +{peak_mib - idle_mib:6.1f} MiB   {end}   worst echo {worst_s * 1000:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)}; none: all")
    parser.add_argument("--peers", type=int, default=1000)
    parser.add_argument("--ping-interval-s", type=float, default=5)
    parser.add_argument("--pong-timeout-s", type=float, default=2)
    parser.add_argument("--longest-s", type=float, default=60, help="of one scenario")
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name in given.scenarios or SCENARIOS:
        with _server(given.ping_interval_s, given.pong_timeout_s) as (port, pid):
            print(asyncio.run(_measure(name, port, pid, given.peers, given.longest_s)), flush=True)


if __name__ == "__main__":
    main()
