"""Kill nodes and the store while producers append to durable streams: ``make chaos CHAOS='--streams'``.

In each round a node or the store is killed and started again; with ``--alone`` one server with a SQLite file
of its own. Eight producers send each append until it is answered, with its number; four readers follow by
long polls, from the offset they have. At the end each stream must hold what each producer sent, once and in
order, and each reader must have read just that.
"""

import asyncio
import contextlib
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from heartwire.testing.server import run_server
from tools.chaos.balancer import balancer
from tools.chaos.run import CONFIG, Chaos, Victims, servers
from tools.chaos.stores import STORES
from tools.chaos.verdict import Kept

__all__ = ["ALONE", "StreamsOutcome", "judge", "stream_chaos"]

ALONE: Final = "sqlite, alone"
"""The engine of `Chaos` for one server without a store beside it."""

_STREAMS: Final = ["s:a", "s:b", "s:c", "s:d"]
_AGAIN_S: Final = 0.05
_PAUSE_S: Final = 0.005
"""Of a producer between two appends, or the machine has no time to start what was killed."""
_TAKEN: Final = (200, 204)
_GONE: Final = 410
_NAMES: Final = ("x", "y")
_HUNG: Final = aiohttp.ClientTimeout(total=120)
"""A request that lasts longer is never answered: the run fails."""


@dataclass
class StreamsOutcome:
    """What has happened.

    Attributes:
        sent: the last number of each producer, by stream and name.
        repeated: how often an append was sent again.
        renamed: how often a reader was told to begin anew.
        kills: how often each was killed.
        problems: the broken promises; none: all is well.
    """

    kills: dict[str, int]
    sent: dict[tuple[str, str], int] = field(default_factory=dict)
    repeated: int = 0
    renamed: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        return sum(self.sent.values())


def stream_chaos(what: Chaos, rounds: int, say: Callable[[str], None]) -> StreamsOutcome:
    """Run it; ``what.seconds`` and ``what.every_s`` are not looked at."""
    kept = Kept.ALL if what.engine == ALONE else STORES[what.engine].kept
    with _one_server() if what.engine == ALONE else servers(what) as (victims, sockets):
        if kept is Kept.NOTHING:
            del victims["the store"]  # it would take the streams with it

        async def run() -> StreamsOutcome:
            async with balancer(sockets) as url, aiohttp.ClientSession(url, timeout=_HUNG) as session:
                return await _run(what, rounds, victims, session, say)

        outcome = asyncio.run(run())
    if outcome.renamed and kept is not Kept.RENAMED:
        outcome.problems.append(f"readers had to begin anew {outcome.renamed} times")
    return outcome


@contextlib.contextmanager
def _one_server() -> Iterator[tuple[Victims, list[Path]]]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        with run_server("--uds", "s", engine="sqlite:///s.db", config=CONFIG, folder=folder) as server:
            yield {"the server": server}, [folder / "s"]


async def _run(
    what: Chaos, rounds: int, victims: Victims, session: aiohttp.ClientSession, say: Callable[[str], None]
) -> StreamsOutcome:
    outcome = StreamsOutcome(dict.fromkeys(victims, 0))
    read = {stream: bytearray() for stream in _STREAMS}
    for stream in _STREAMS:
        await _ask(session, "PUT", stream, {"Content-Type": "text/plain"})
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for stream in _STREAMS:
            group.create_task(_follow(session, stream, read[stream], outcome))
        async with asyncio.TaskGroup() as producing:
            for stream in _STREAMS:
                for name in _NAMES:
                    producing.create_task(_produce(session, stream, name, outcome, ended))
            await _kill(what, rounds, victims, outcome, say)
            ended.set()
        for stream in _STREAMS:
            await _ask(session, "POST", stream, {"Stream-Closed": "true"})
    for stream in _STREAMS:
        sent = {name: outcome.sent.get((stream, name), 0) for name in _NAMES}
        problems = judge(bytes(read[stream]), await _whole(session, stream), sent)
        outcome.problems += [f"{stream}: {problem}" for problem in problems]
    return outcome


async def _kill(
    what: Chaos, rounds: int, victims: Victims, outcome: StreamsOutcome, say: Callable[[str], None]
) -> None:
    chance = random.Random(what.seed)
    for number in range(1, rounds + 1):
        await asyncio.sleep(chance.uniform(0.05, 0.4))
        name = chance.choice(sorted(victims))
        outcome.kills[name] += 1
        await asyncio.to_thread(victims[name].kill)
        await asyncio.sleep(chance.uniform(0, 0.2))
        await asyncio.to_thread(victims[name].start)
        say(
            f"round {number} of {rounds}: {name} was killed; {outcome.acknowledged:,} appends answered,"
            f" {outcome.repeated} sent again"
        )


async def _produce(
    session: aiohttp.ClientSession, stream: str, name: str, outcome: StreamsOutcome, ended: asyncio.Event
) -> None:
    headers = {"Content-Type": "text/plain", "Producer-Id": name, "Producer-Epoch": "0"}
    number = 0
    while not ended.is_set():
        outcome.repeated += await _ask(
            session, "POST", stream, headers | {"Producer-Seq": str(number)}, f"{name} {number}\n".encode()
        )
        number += 1
        outcome.sent[stream, name] = number
        await asyncio.sleep(_PAUSE_S)


async def _follow(
    session: aiohttp.ClientSession, stream: str, read: bytearray, outcome: StreamsOutcome
) -> None:
    """Read on from the offset there is, until the stream is closed. A store that may have lost something says
    so by another epoch: then from the start."""
    offset, is_closed = "-1", False
    while not is_closed:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"/streams/{stream}?offset={offset}&live=long-poll") as answer:
                if answer.status in _TAKEN:
                    read += await answer.read()
                    offset = answer.headers["Stream-Next-Offset"]
                    is_closed = answer.headers.get("Stream-Closed") == "true"
                    continue
                if answer.status == _GONE:
                    outcome.renamed += 1
                    offset, read[:] = "-1", b""
        await asyncio.sleep(_AGAIN_S)


async def _ask(
    session: aiohttp.ClientSession, method: str, stream: str, headers: dict[str, str], body: bytes = b""
) -> int:
    """Ask until it is answered. Returns how often it was sent again.

    Raises ``RuntimeError`` for a refusal.
    """
    for again in range(10_000):
        with contextlib.suppress(aiohttp.ClientError):
            async with session.request(
                method, f"/streams/{stream}", headers=headers, data=body or None
            ) as answer:
                if answer.status < 300:
                    return again
                if answer.status < 500:
                    raise RuntimeError(f"{method} {stream}: {answer.status} {await answer.text()}")
        await asyncio.sleep(_AGAIN_S)
    raise RuntimeError(f"{method} {stream}: it was never answered")


async def _whole(session: aiohttp.ClientSession, stream: str) -> bytes:
    content, offset = b"", "-1"
    while True:
        async with session.get(f"/streams/{stream}?offset={offset}", raise_for_status=True) as answer:
            content += await answer.read()
            offset = answer.headers["Stream-Next-Offset"]
            if answer.headers.get("Stream-Up-To-Date") == "true":
                return content


def judge(read: bytes, kept: bytes, sent: Mapping[str, int]) -> list[str]:
    """What is wrong with a stream. ``sent``: how many appends of each producer were answered."""
    problems = []
    if read != kept:
        problems.append(f"a reader has {len(read)} bytes, the stream {len(kept)}")
    lines = kept.decode().splitlines()
    wanted = {name: [f"{name} {number}" for number in range(count)] for name, count in sent.items()}
    for name, all_of_it in wanted.items():
        found = [line for line in lines if line.startswith(f"{name} ")]
        if found != all_of_it:
            lost, more = set(all_of_it) - set(found), len(found) - len(set(found))
            problems.append(
                f"producer {name} sent {len(all_of_it)}, {len(found)} are there:"
                f" {len(lost)} lost, {more} doubled"
            )
    invented = set(lines).difference(*wanted.values())
    if invented:
        problems.append(f"{len(invented)} lines that nobody sent: {min(invented)[:80]!r}")
    return problems
