"""Cut Socket.IO clients off while a server emits: ``make chaos CHAOS='--socketio'``.

In each round three clients of the public library, over polls, a WebSocket and an upgrade, get a number every
20 ms. Their connections are cut so that both sides notice; or so that the server does not; or the server is
killed meanwhile; or while they are connected. Whatever `AsyncServer.emit` had confirmed between the first and
the last number of a client, the client must have, once and in order, and be told that it was recovered.
"""

import asyncio
import itertools
import json
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["KINDS", "Seen", "cuts", "judged"]

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]

KINDS: Final = ["cut", "half-open", "killed in a cut", "killed"]

_READY_S: Final = 20


@dataclass
class Seen:
    """What one client saw in one round.

    Attributes:
        recovered: whether each of its connections was a recovered one.
        events, lost, doubled, swapped: of the numbers it had to get.
        strangers: events of a room that it is not in.
    """

    kind: str
    transport: str
    recovered: list[bool]
    events: int
    lost: int
    doubled: int
    swapped: int
    strangers: int
    problems: list[str] = field(default_factory=list)


def judged(kind: str, saw: dict[str, Any], kept: list[int]) -> Seen:
    """Hold what a client saw against what was kept."""
    got = [number for _, number in saw["got"]]
    had = set(got)
    between = [number for number in kept if got and got[0] <= number <= got[-1]]
    lost = sum(number not in had for number in between)
    swapped = sum(later < earlier for earlier, later in itertools.pairwise(got))
    doubled, recovered = len(got) - len(had), saw["recovered"]
    seen = Seen(kind, saw["mode"], recovered, len(between), lost, doubled, swapped, saw["strangers"])
    if lost or doubled or swapped or seen.strangers:
        seen.problems.append(f"{lost} lost, {doubled} doubled, {swapped} swapped, {seen.strangers} of others")
    if len(recovered) < 2 or recovered[0] or not all(recovered[1:]):
        seen.problems.append(f"was recovered: {recovered}")
    if len(between) < 50:
        seen.problems.append(f"{len(between)} events show little")
    return seen


def cuts(
    engine: str, rounds: int, say: Callable[[str], object], *, recovers: bool = True, cut_s: float = 3
) -> list[Seen]:
    """Run rounds of each kind. ``engine``: "memory", where nothing is killed, or "sqlite"."""
    kinds = KINDS if engine == "sqlite" else KINDS[:2]
    seen = []
    for kind in kinds:
        mine = []
        for _ in range(rounds):
            mine += asyncio.run(_round(engine, kind, recovers=recovers, cut_s=cut_s))
        seen += mine
        for transport in ("polling", "websocket", "upgrade"):
            say(_row(kind, transport, [one for one in mine if one.transport == transport]))
    return seen


def _row(kind: str, transport: str, seen: list[Seen]) -> str:
    events = sum(one.events for one in seen)
    lost, doubled, swapped = (
        sum(getattr(one, name) for one in seen) for name in ("lost", "doubled", "swapped")
    )
    told = sum(all(one.recovered[1:]) and len(one.recovered) > 1 for one in seen)
    row = f"{kind:16} {transport:10} {len(seen):3} rounds {events:7,} events"
    return f"{row} {lost:5} lost {doubled:3} doubled {swapped:3} swapped {told:3} recovered"


async def _round(engine: str, kind: str, *, recovers: bool, cut_s: float) -> list[Seen]:
    with tempfile.TemporaryDirectory(prefix="heartwire-cuts-") as folder:
        kept = Path(folder) / "kept"
        kept.touch()
        url = "memory://" if engine == "memory" else f"sqlite:///{folder}/cuts.db"
        server = _Server(_free_port(), url, kept, recovers=recovers)
        pipe = asyncio.subprocess.PIPE
        try:
            await server.start()
            clients = await asyncio.create_subprocess_exec(
                "node", str(HERE / "cuts.mjs"), str(server.port), stdin=pipe, stdout=pipe, cwd=ROOT
            )
            try:
                await _events(kept, 100)
                await _trouble(kind, server, clients, cut_s)
                await _events(kept, 100)
                out, _ = await asyncio.wait_for(clients.communicate(b"stop\n"), 20)
            finally:
                if clients.returncode is None:
                    clients.kill()
        finally:
            await server.kill()
        numbers = [int(line) for line in kept.read_text().split("\n")[:-1]]
        return [judged(kind, saw, numbers) for saw in json.loads(out)]


async def _trouble(kind: str, server: "_Server", clients: asyncio.subprocess.Process, cut_s: float) -> None:
    assert clients.stdin is not None
    if kind == "killed":
        await server.kill()
        await asyncio.sleep(0.3)
        await server.start()
        return
    clients.stdin.write(b"mute\n" if kind == "half-open" else b"cut\n")
    if kind == "killed in a cut":
        await asyncio.sleep(cut_s / 3)
        await server.kill()
        await server.start()
        await asyncio.sleep(cut_s / 3)
    else:
        await asyncio.sleep(cut_s)
    clients.stdin.write(b"heal\n")


async def _events(kept: Path, count: int) -> None:
    """Wait until so many more events are kept."""
    size = _size(kept) + count * 10
    async with asyncio.timeout(_READY_S):
        while _size(kept) < size:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)


def _size(file: Path) -> int:
    return file.stat().st_size


class _Server:
    """A server that keeps its port over its lives."""

    def __init__(self, port: int, url: str, kept: Path, *, recovers: bool) -> None:
        self.port = port
        flags = [] if recovers else ["--forgetful"]
        self._command = [sys.executable, "-m", "tools.chaos.cuts_server", str(port), url, str(kept), *flags]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(*self._command, cwd=ROOT)
        async with asyncio.timeout(_READY_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
