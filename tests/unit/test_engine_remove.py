"""`Engine.remove`: what is kept is forgotten, the stream goes on."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from heartwire import Channel, Position
from heartwire.engines.base import Engine, Retention, settled
from heartwire.engines.memory import MemoryEngine
from heartwire.engines.sqlite import SqliteEngine
from heartwire.types import EARLIEST, Message

KEEP = Retention(10, 86_400)
A = Channel("a")


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Engine]:
    """Opens an engine; the second time that of sqlite has what the first one kept."""
    return MemoryEngine if request.param == "memory" else lambda: SqliteEngine(tmp_path / "streams.db")


def test_remove_forgets_and_goes_on(opened: Callable[[], Engine]) -> None:
    async def main() -> None:
        engine = opened()
        await engine.start(lambda publication: None)
        unborn = await settled(engine.remove(A))
        assert unborn.offset == 0
        for number in range(3):
            last = await settled(engine.append(A, Message(b"%d" % number), KEEP, key=f"{number}"))
        assert last == Position(unborn.epoch, 3)
        assert await settled(engine.remove(A)) == last
        seen = await settled(engine.read(A, Position(last.epoch, 1), KEEP, limit=9, max_bytes=999))
        assert (seen.publications, seen.recovered, seen.start, seen.head) == ([], False, last, last)
        assert (await settled(engine.read(A, last, KEEP, limit=9, max_bytes=999))).recovered
        assert await settled(engine.append(A, Message(b"again"), KEEP, key="1")) == Position(last.epoch, 2)
        assert await settled(engine.append(A, Message(b"new"), KEEP)) == Position(last.epoch, 4)
        everything = await settled(engine.read(A, EARLIEST, KEEP, limit=9, max_bytes=999))
        assert [publication.data for publication in everything.publications] == [b"new"]
        await engine.stop()

    asyncio.run(main())


def test_a_removed_stream_stays_removed_in_a_reopened_store(tmp_path: Path) -> None:
    async def main() -> None:
        for number in (1, 2):
            engine = SqliteEngine(tmp_path / "streams.db")
            await engine.start(lambda publication: None)
            assert (await engine.append(A, Message(b"x"), KEEP)).offset == number
            await engine.remove(A)
            await engine.stop()

    asyncio.run(main())
