"""A reader and a publisher on two hubs of one store, and what they may say after it was replaced."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

from heartwire import Hub
from heartwire.engines.redis.engine import RedisEngine
from heartwire.errors import EngineError
from heartwire.testing.stores import ValkeyServer
from heartwire.types import NOW, Channel, Position
from tests.unit.core.fakes import FakeLink, RecordingFormat, Told
from tests.unit.transports.tools import until

ROOMS = [Channel(f"room:{number}") for number in range(8)]


class Load:
    """Attributes:
    acknowledged: the position and the text of each publish that was answered, by channel.
    """

    def __init__(self, publisher: Hub, reader: Hub) -> None:
        self.acknowledged: dict[Channel, list[tuple[Position, str]]] = {room: [] for room in ROOMS}
        self.refused = 0
        self._is_ending = False
        self._tasks: list[asyncio.Future[None]] = []
        self._publisher, self._board = publisher, reader.node.switchboard
        self._links: dict[Channel, FakeLink] = {}

    async def follow(self) -> None:
        for room in ROOMS:
            link = self._links[room] = FakeLink(self._board)
            link.subscriptions.append(self._board.follow(link, room, RecordingFormat(), NOW))
        await until(lambda: all(link.payloads for link in self._links.values()))

    def begin(self) -> None:
        self._tasks = [asyncio.ensure_future(self._publish(room)) for room in ROOMS]

    async def end(self) -> None:
        """Let each publish have its answer."""
        self._is_ending = True
        await asyncio.gather(*self._tasks)

    async def _publish(self, room: Channel) -> None:
        number = 0
        while not self._is_ending:
            number += 1
            text = f"{room} {number}"
            try:
                self.acknowledged[room].append((await self._publisher.publish(room, text), text))
            except EngineError:
                self.refused += 1

    async def goes_on(self, count: int = 50, within_s: float = 30) -> None:
        """Wait until so many more publishes are acknowledged in each room."""
        before = {room: len(done) for room, done in self.acknowledged.items()}
        async with asyncio.timeout(within_s):
            while any(  # noqa: ASYNC110 - a failover takes seconds
                len(self.acknowledged[room]) < has + count for room, has in before.items()
            ):
                await asyncio.sleep(0.01)

    def read(self, room: Channel) -> tuple[list[str], int, str]:
        """What was read, how many gaps were told, and the epoch that the reader is in."""
        texts, gaps, epoch = [], 0, ""
        for payload in self._links[room].payloads:
            epoch = payload.position.epoch
            if isinstance(payload, Told):
                gaps += not payload.recovered
            else:
                texts += [one.data.decode() for one in payload.publications]
        return texts, gaps, epoch

    async def check(self) -> int:
        """Every acknowledged publish is read, or a gap was told that it lies before. Returns the gaps. Ends
        the load."""
        await self.end()
        for room, acknowledged in self.acknowledged.items():
            last = acknowledged[-1][1]
            await until(lambda room=room, last=last: last in self.read(room)[0])  # type: ignore[misc]
        gaps = 0
        for room, acknowledged in self.acknowledged.items():
            texts, gaps_here, epoch = self.read(room)
            gaps += gaps_here
            missed = [at for at, text in acknowledged if text not in set(texts)]
            assert not missed or gaps_here, f"{room}: {missed} were missed, and no gap told"
            assert epoch not in {at.epoch for at in missed}, f"{room}: {missed} in the epoch that goes on"
            if not gaps_here:
                assert len(texts) == len(set(texts)), f"{room}: read twice"
        return gaps


@contextlib.asynccontextmanager
async def load_on(url: str) -> AsyncIterator[Load]:
    """Publishers and readers at work, each on a hub of its own, in `ROOMS`."""
    publisher, reader = (Hub(RedisEngine.from_url(url)) for _ in range(2))
    async with publisher.lifespan(), reader.lifespan():
        load = Load(publisher, reader)
        await load.follow()
        load.begin()
        try:
            yield load
        finally:
            await load.end()


async def until_in_step(primary: ValkeyServer, replica: ValkeyServer) -> None:
    """Wait until a replica has all that its primary has."""
    while True:
        ours, theirs = [await one.command("INFO", "replication") for one in (primary, replica)]
        of_primary = re.search(rb"\nmaster_repl_offset:(\d+)", ours)
        of_replica = re.search(rb"\nslave_repl_offset:(\d+)", theirs)
        assert of_primary
        if b"master_link_status:up" in theirs and of_replica and of_replica[1] == of_primary[1]:
            return
        await asyncio.sleep(0.01)
