"""When the memory engine forgets, and how much it holds."""

from heartwire.engines.contract import Retention
from heartwire.engines.memory import MemoryEngine
from heartwire.testing import FakeClock
from heartwire.types import EARLIEST, Channel, Message

A = Channel("a")


async def test_stream_unused_for_a_month_is_forgotten_once_its_life_is_over() -> None:
    clock = FakeClock()
    keep = Retention(10, 60)
    engine = MemoryEngine(clock=clock)
    epoch = engine.append(A, Message(b"x"), keep, key="k").epoch
    clock.advance(29 * 86_400)
    await engine.sweep(lambda channel: keep)
    engine.append(Channel("b"), Message(b"x"), keep)
    clock.advance(2 * 86_400)
    await engine.sweep(lambda channel: keep)
    assert set(engine._streams) == {"b"}
    assert engine.append(A, Message(b"x"), keep).epoch != epoch
    clock.advance(29 * 86_400)
    await engine.sweep(lambda channel: keep)
    clock.advance(2 * 86_400)
    assert engine.append(A, Message(b"x"), keep).offset == 2  # of this life: kept until it is over


async def test_memory_engine_forgets_keys_of_channels_nobody_publishes_to() -> None:
    clock = FakeClock()
    engine = MemoryEngine(clock=clock)
    engine.append(A, Message(b"x"), Retention(10, 60), key="k")
    clock.advance(301)
    await engine.sweep(lambda channel: Retention(10, 60))
    assert not engine._streams[A].keys


async def test_memory_engine_holds_an_eighth_more_than_is_kept_at_most_and_shows_none_of_it() -> None:
    clock = FakeClock()
    engine = MemoryEngine(clock=clock)
    keep = Retention(80, 60)
    for count in range(1, 500):
        engine.append(A, Message(b"x"), keep)
        assert min(count, 80) <= len(engine._streams[A].items) <= 90
    shown = engine.read(A, EARLIEST, keep, limit=1000, max_bytes=10**6)
    assert [publication.offset for publication in shown.publications] == list(range(420, 500))
    clock.advance(61)
    await engine.sweep(lambda channel: keep)
    assert engine._streams[A].items == []
