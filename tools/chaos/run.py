"""A run: starts everything, kills, heals, and waits until every reader has everything."""

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from heartwire.client.options import TRANSPORTS
from heartwire.testing.server import run_server
from tools.chaos.balancer import balancer
from tools.chaos.publishers import Publisher
from tools.chaos.readers import Reader, by_client, late, plainly
from tools.chaos.stores import STORES
from tools.chaos.verdict import Run, verdict

__all__ = ["CONFIG", "Chaos", "Outcome", "Victims", "chaos", "servers"]

CHANNELS: Final = ["a", "b", "c", "d"]

_HEALED_S: Final = 60.0
"""How long it may take, once nothing is killed any more, until everybody has everything."""

CONFIG: Final = """
connects_per_s = 0
[namespaces.""]
history_size = 1000000
[namespaces.s]
durable = true
max_stream_bytes = 1000000000
"""


class Chaos(NamedTuple):
    """What is to happen. ``every_s``: between two kills."""

    engine: str
    seconds: float = 60
    every_s: float = 3
    nodes: int = 3
    rate_per_s: float = 25
    seed: int = 0


@dataclass
class Outcome:
    """What has happened.

    Attributes:
        problems: the broken promises; none: all is well.
        kills: how often each was killed.
        healed_s: until everybody had everything, after the last kill.
    """

    publishers: list[Publisher]
    readers: list[Reader]
    kills: dict[str, int]
    problems: list[str] = field(default_factory=list)
    healed_s: float = 0.0

    @property
    def acknowledged(self) -> int:
        return sum(len(one.acks) for one in self.publishers)

    @property
    def delivered(self) -> int:
        return sum(len(tale.seen) for one in self.readers for tale in one.tales)

    @property
    def gaps(self) -> int:
        return sum(len(tale.events) - len(tale.seen) for one in self.readers for tale in one.tales)

    @property
    def is_whole(self) -> bool:
        """Whether all readers are where the last one is, who has begun when all was over."""
        return len({(tale.channel, tale.at) for one in self.readers for tale in one.tales}) == len(CHANNELS)


class _Victim(Protocol):
    def start(self) -> None: ...
    def kill(self) -> None: ...


Say = Callable[[str, Outcome], None]
Victims = dict[str, _Victim]


def chaos(what: Chaos, say: Say) -> Outcome:
    """Run it. ``say`` is called with each thing that happens."""
    with servers(what) as (victims, sockets):
        outcome = asyncio.run(_chaos(what, victims, sockets, say))
    kept, kills = STORES[what.engine].kept, outcome.kills["the store"]
    sent = {(channel, one.name): count for one in outcome.publishers for channel, count in one.sent.items()}
    acks = [ack for one in outcome.publishers for ack in one.acks]
    tales = [tale for one in outcome.readers for tale in one.tales]
    outcome.problems += [text for one in outcome.publishers for text in one.refused]
    outcome.problems += [text for one in outcome.readers for text in one.troubles]
    outcome.problems += verdict(Run(acks, tales, sent, kept, kills))
    return outcome


async def _chaos(what: Chaos, victims: Victims, sockets: list[Path], say: Say) -> Outcome:
    async with balancer(sockets) as url:
        outcome = Outcome(_publishers(what, url), _readers(), dict.fromkeys(victims, 0))
        async with _reading(outcome, url, what.seed):
            await _publish_and_kill(what, outcome, victims, say)
            await _heal(outcome, url, say)
    return outcome


@contextlib.contextmanager
def servers(what: Chaos) -> Iterator[tuple[Victims, list[Path]]]:
    """The nodes and the store by name, and the sockets of the nodes."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
        store = stack.enter_context(STORES[what.engine].run(folder))
        victims: Victims = {"the store": store}
        sockets = []
        for number in range(1, what.nodes + 1):
            place = folder / str(number)
            place.mkdir()
            node = run_server("--uds", "s", engine=store.url, config=CONFIG, folder=place)
            victims[f"node {number}"] = stack.enter_context(node)
            sockets.append(place / "s")
        yield victims, sockets


def _publishers(what: Chaos, url: str) -> list[Publisher]:
    return [
        Publisher(f"p{number}", url, transport, CHANNELS, rate_per_s=what.rate_per_s, seed=what.seed)
        for number, transport in enumerate(TRANSPORTS, 1)
    ]


def _readers() -> list[Reader]:
    return [Reader(f"{kind} {name}", CHANNELS) for name in TRANSPORTS for kind in ("client", "plain")]


@contextlib.asynccontextmanager
async def _reading(outcome: Outcome, url: str, seed: int) -> AsyncIterator[None]:
    tasks = []
    for number, reader in enumerate(outcome.readers):
        transport = TRANSPORTS[number // 2]
        work = plainly(reader, url, transport, seed) if number % 2 else by_client(reader, url, transport)
        tasks.append(asyncio.ensure_future(work))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                outcome.problems.append(f"a reader failed: {result!r}")


async def _publish_and_kill(what: Chaos, outcome: Outcome, victims: Victims, say: Say) -> None:
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for publisher in outcome.publishers:
            group.create_task(publisher.run(ended))
        await _kill(what, outcome, victims, say)
        ended.set()


async def _kill(what: Chaos, outcome: Outcome, victims: Victims, say: Say) -> None:
    """Kill one after the other, in an order that the seed decides, and start each again; the store last, so
    that what nodes had not heard then is not followed by more, which would show them."""
    chance = random.Random(what.seed)
    began = time.monotonic()
    turns: list[str] = []
    count = int(what.seconds / what.every_s)
    for number in range(1, count + 1):
        await asyncio.sleep(began + number * what.every_s - time.monotonic())
        if not turns:
            turns = chance.sample(sorted(victims), len(victims))
        name = turns.pop() if number < count else "the store"
        outcome.kills[name] += 1
        killed = time.monotonic()
        await asyncio.to_thread(victims[name].kill)
        await asyncio.sleep(chance.uniform(0, 0.5))
        await asyncio.to_thread(victims[name].start)
        back_s = time.monotonic() - killed
        say(f"{killed - began:5.1f} s  {name} was killed, and started again after {back_s:.1f} s", outcome)


async def _heal(outcome: Outcome, url: str, say: Say) -> None:
    began = time.monotonic()
    outcome.readers.append(Reader("late", CHANNELS))
    try:
        async with asyncio.timeout(_HEALED_S):
            await late(outcome.readers[-1], url)
            while not outcome.is_whole:  # noqa: ASYNC110 - no one place knows it, and could set an event
                await asyncio.sleep(0.02)
    except TimeoutError:
        pass  # the verdict says what is missing
    outcome.healed_s = time.monotonic() - began
    say(f"{outcome.healed_s:.1f} s after the last answer: the readers are where they will be", outcome)
