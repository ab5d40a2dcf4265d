"""Runs batches against real servers, and watches those: their log, memory, connections, and other clients."""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from heartwire.testing.server import ServerProcess, run_server
from tools.fuzz.answers import faults
from tools.fuzz.play import Played, play
from tools.fuzz.scripts import Script, batch
from tools.fuzz.target import TARGETS
from tools.fuzz.witness import Internals, internals, witness

__all__ = ["SHOWN", "Finding", "Total", "Watched", "fuzz", "watched"]

ROOT: Final = Path(__file__).parents[2]

_QUIET: Final = re.compile(r"Invalid HTTP request received\.$")
"""Log lines that bad bytes may cause: uvicorn's own."""

SHOWN: Final = 100
"""So many findings are shown, and traced to a connection."""

_WARM_UP_BATCHES: Final = 150
_GROWTH_BYTES: Final = 8 * 1024 * 1024


class Finding(NamedTuple):
    """Something that must not be: in which batch, on which server, what, and what was sent if that is
    known."""

    seed: int
    target: str
    problem: str
    script: Script | None = None

    def __str__(self) -> str:
        told = f"seed {self.seed} on {self.target}: {self.problem}"
        if self.script is not None:
            steps = "".join(f"\n    {step!r:.2000}" for step in self.script.steps)
            told += f"\n  {self.script.name} sent{steps}"
        return f"{told}\n  again: python -m tools.fuzz --seed {self.seed} --target {self.target}"


class Total:
    """What a run has done so far."""

    def __init__(self) -> None:
        self.batches = self.connections = self.sent_bytes = self.got_bytes = self.answers = 0
        self.slowest_s = 0.0
        self.findings: list[Finding] = []
        self.rss: dict[str, tuple[int, int]] = {}
        """By target: after the warm-up (or at the start), and at the end."""

    def add(self, played: Sequence[Played]) -> None:
        self.batches += 1
        self.connections += len(played)
        self.sent_bytes += sum(len(one.script.sent) for one in played)
        self.got_bytes += sum(len(one.got) for one in played)
        self.answers += sum(one.got.count(b"HTTP/1.1 ") for one in played)


class Watched:
    """A server, and what was seen of it."""

    def __init__(self, name: str, server: ServerProcess) -> None:
        self.name = name
        self.server = server
        self.batches = 0
        self.warm_bytes = 0
        self._log_at = len(server.log)
        self._idle: Internals = {}
        self._last_seed = self._sockets = 0

    async def begin(self) -> None:
        """Note what the server holds before anything is sent."""
        await witness(self.server.port)
        self._idle = await internals(self.server.port)
        self._sockets = self._count_sockets()
        self.warm_bytes = self.server.rss_bytes

    async def run(self, seed: int, scripts: Sequence[Script], total: Total) -> list[Finding]:
        """Play a batch, then look at the server."""
        played = await play(self.server.port, scripts, seed)
        total.add(played)
        self.batches += 1
        self._last_seed = seed
        found = [
            Finding(seed, self.name, problem, one.script)
            for one in played
            for problem in self._faults_of(one)
        ]
        problems, took_s = await witness(self.server.port)
        total.slowest_s = max(total.slowest_s, took_s)
        problems += self._new_in_log()
        found += [Finding(seed, self.name, problem) for problem in problems]
        if self.batches == _WARM_UP_BATCHES:
            self.warm_bytes = self.server.rss_bytes
        return found

    def _faults_of(self, played: Played) -> list[str]:
        if played.is_cut:
            return []
        problems = faults(played.script.sent, bytes(played.got), played.end)
        # The last thing that comes before the client goes may be half of something.
        if played.end == "client":
            problems = [one for one in problems if not one.startswith("half of")]
        counted = len(re.findall(rb"HTTP/1\.1 [2-5]\d\d ", played.got))
        if played.script.answers is not None and counted < played.script.answers:
            problems.append(
                f"{counted} answers to {played.script.answers} valid requests: {played.got[-300:]!r}"
            )
        return problems

    def _new_in_log(self) -> list[str]:
        log = self.server.log
        new, self._log_at = log[self._log_at :], len(log)
        lines = [line for line in new.splitlines() if not _QUIET.search(line)]
        return ["in the log:\n    " + "\n    ".join(lines[-40:])] if lines else []

    async def settle(self, *, within_s: float) -> list[Finding]:
        """See that everything that was begun ends: connections, tasks, memory."""
        held: dict[str, int] = {}
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            now = await internals(self.server.port) | {"sockets": self._count_sockets()}
            idle = self._idle | {"sockets": self._sockets}
            held = {name: now[name] for name in idle if now[name] > idle[name]}
            if not held:
                break
            await asyncio.sleep(0.2)
        problems = [f"{name} left: {count}, {self._idle}" for name, count in held.items()]
        grown = self.server.rss_bytes - self.warm_bytes
        if self.batches > _WARM_UP_BATCHES and grown > _GROWTH_BYTES:
            problems.append(f"memory has grown by {grown / 1e6:.1f} MB since the warm-up")
        return [Finding(self._last_seed, self.name, problem) for problem in problems]

    def _count_sockets(self) -> int:
        folder = Path(f"/proc/{self.server.pid}/fd")
        count = 0
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):
                count += os.readlink(entry).startswith("socket:")
        return count

    async def blame(self, finding: Finding, scripts: Sequence[Script], total: Total) -> Finding:
        """Find the connection that a finding of a whole batch comes from: each again, alone."""
        if finding.script is not None:
            return finding
        opening = scripts[0]
        for script in scripts[1:]:
            if await self.run(finding.seed, [opening, script], total):
                return finding._replace(script=script)
        return finding


@contextlib.contextmanager
def watched(names: Sequence[str] = TARGETS, *, module: str = "tools.fuzz.target") -> Iterator[list[Watched]]:
    """Run the servers, each in a process of its own."""
    path = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    with contextlib.ExitStack() as stack:
        made = []
        for name in names:
            target = f"{module}:{name}"
            server = stack.enter_context(run_server(target, engine=None, environment=path))
            made.append(Watched(name, server))
        yield made


async def fuzz(
    servers: Sequence[Watched],
    seeds_of: Callable[[int], Iterator[int]],
    *,
    tick: Callable[[Total], None] = lambda total: None,
    settle_s: float = 60,  # a long poll may last so long
) -> Total:
    """Run batches on all servers at once, and see that they settle. ``seeds_of``: by the server's number."""
    total = Total()
    await asyncio.gather(*(_fuzz_one(one, seeds_of(at), total, tick) for at, one in enumerate(servers)))
    for one in servers:
        total.findings += await one.settle(within_s=settle_s)
        total.rss[one.name] = (one.warm_bytes, one.server.rss_bytes)
    return total


async def _fuzz_one(
    server: Watched, seeds: Iterator[int], total: Total, tick: Callable[[Total], None]
) -> None:
    await server.begin()
    for seed in seeds:
        scripts = batch(seed)
        for finding in await server.run(seed, scripts, total):
            is_shown = len(total.findings) < SHOWN
            total.findings.append(await server.blame(finding, scripts, total) if is_shown else finding)
        tick(total)
