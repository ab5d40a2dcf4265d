"""The `Bench` that a check of an engine works with."""

import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from heartwire.core.waiting import settled
from heartwire.engines.contract import Engine, Feed, ReadResult, Retention
from heartwire.testing.clock import FakeClock
from heartwire.types import EARLIEST, Channel, Member, Message, Position, Publication, Start

__all__ = ["KEEP", "A", "B", "Bench", "Check", "offsets_of"]

KEEP: Final = Retention(history_size=10_000, history_ttl_s=86_400)
A: Final = Channel("a")
B: Final = Channel("b")


def offsets_of(publications: Sequence[Publication]) -> list[int]:
    return [publication.offset for publication in publications]


class Bench:
    """A fresh engine that has been started.

    Attributes:
        clock: the clock that the engine reads.
        notified: the publications it has notified of, in order; from threads ``threads``.
    """

    def __init__(self, engine: Engine, clock: FakeClock, reopen: Callable[[], Engine] | None) -> None:
        self.engine = engine
        self.clock = clock
        self.notified: list[Publication] = []
        self.threads: set[int] = set()
        self._reopen = reopen

    def notify(self, publication: Publication) -> None:
        self.notified.append(publication)
        self.threads.add(threading.get_ident())

    async def append(
        self,
        channel: Channel,
        text: str | bytes = "",
        keep: Retention = KEEP,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> Position:
        message = Message(text.encode() if isinstance(text, str) else text, isinstance(text, str))
        return await settled(self.engine.append(channel, message, keep, key=key, key_ttl_s=key_ttl_s))

    async def fill(self, channel: Channel, count: int, keep: Retention = KEEP) -> list[Position]:
        """Append ``count`` small messages."""
        return [await self.append(channel, f"{number}", keep) for number in range(1, count + 1)]

    async def read(
        self,
        channel: Channel,
        start: Start = EARLIEST,
        keep: Retention = KEEP,
        *,
        limit: int = 1000,
        max_bytes: int = 1 << 30,
    ) -> ReadResult:
        return await settled(self.engine.read(channel, start, keep, limit=limit, max_bytes=max_bytes))

    async def texts(self, channel: Channel) -> list[str]:
        """The data that is kept."""
        return [publication.data.decode() for publication in (await self.read(channel)).publications]

    async def offsets(self, channel: Channel, start: Start = EARLIEST, keep: Retention = KEEP) -> list[int]:
        """The offsets that a read returns."""
        return offsets_of((await self.read(channel, start, keep)).publications)

    async def present(self, channel: Channel) -> dict[str, Member]:
        """The members present, by client."""
        return {member.client: member for member in await self.engine.members(channel)}

    async def reopen(self) -> None:
        """Stop the engine and go on with another one on the same store."""
        assert self._reopen is not None
        await self.engine.stop()
        self.engine = self._reopen()
        await self.engine.start(Feed(self.notify))


Check = Callable[[Bench], Awaitable[None]]
"""Raises `PromiseBroken`. Its name is the promise."""
