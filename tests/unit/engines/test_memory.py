"""When the memory engine forgets, and how much it holds."""

import asyncio

import pytest

from heartwire.engines.contract import ReadResult, Retention
from heartwire.engines.memory import MemoryEngine
from heartwire.errors import ConfigError
from heartwire.testing import FakeClock
from heartwire.types import EARLIEST, Channel, Member, Message, Start

A = Channel("a")
KEEP = Retention(100_000, 86_400)


def read(engine: MemoryEngine, channel: Channel, start: Start = EARLIEST) -> ReadResult:
    return engine.read(channel, start, KEEP, limit=1000, max_bytes=10**6)


async def test_empty_stream_is_forgotten_after_an_hour_and_comes_back_in_another_epoch() -> None:
    clock = FakeClock()
    keep = Retention(10, 60)
    engine = MemoryEngine(clock=clock)
    epochs = set()
    for _ in range(3):
        head = engine.append(A, Message(b"x"), keep, key="k")
        assert head.offset == 1
        epochs.add(head.epoch)
        clock.advance(3500)
        await engine.sweep(lambda channel: keep)
        assert read(engine, A, head).recovered  # it misses nothing yet
        clock.advance(200)
        await engine.sweep(lambda channel: Retention(10, 60, is_followed=True))
        assert read(engine, A, head).recovered  # nor where somebody follows the channel
        await engine.sweep(lambda channel: keep)
        assert not engine._streams
        assert not read(engine, A, head).recovered
    assert len(epochs) == 3


def test_coldest_stream_gives_way_over_max_channels_and_its_reader_gets_a_gap() -> None:
    engine = MemoryEngine(clock=FakeClock(), max_channels=3)
    cold = [engine.append(Channel(name), Message(b"x"), KEEP) for name in "abc"][1]
    engine.append(A, Message(b"y"), KEEP)  # used again, so b is colder
    engine.append(Channel("d"), Message(b"x"), KEEP)
    assert set(engine._streams) == {"a", "c", "d"}
    assert not read(engine, Channel("b"), cold).recovered
    again = engine.append(Channel("b"), Message(b"other"), KEEP)
    assert again.offset == 1
    assert again.epoch != cold.epoch
    assert not read(engine, Channel("b"), cold).recovered


def test_streams_of_one_client_are_bounded_whatever_their_number() -> None:
    engine = MemoryEngine(clock=FakeClock(), max_channels=100)
    seen = set()
    for number in range(2000):
        seen.add(engine.append(Channel(f"{number % 500}"), Message(b"x"), KEEP))
        assert len(engine._streams) <= 100
        assert len(engine._forgotten) <= 100
    assert len(seen) == 2000  # no position was given twice
    assert engine._bytes == 100 * 201


async def test_bytes_are_bounded_and_counted_through_every_way_out() -> None:
    clock = FakeClock()
    engine = MemoryEngine(clock=clock, max_bytes=100_000)
    for number in range(3000):
        engine.append(Channel(f"{number % 7}"), Message(b"x" * (number % 900)), Retention(40, 60))
        clock.advance(1)
        if number % 100 == 0:
            engine.remove(Channel("3"))
            await engine.sweep(lambda channel: Retention(40, 60))
        held = [len(one.data) + 200 for stream in engine._streams.values() for one in stream.items]
        assert engine._bytes == sum(held) <= 100_000


def test_stream_alone_drops_its_oldest_over_max_bytes() -> None:
    engine = MemoryEngine(clock=FakeClock(), max_bytes=10_000)
    first = engine.append(A, Message(b"x" * 300), KEEP)
    for _ in range(100):
        last = engine.append(A, Message(b"x" * 300), KEEP)
    kept = [one.offset for one in read(engine, A).publications]
    assert kept == list(range(kept[0], 102))
    assert 15 <= len(kept) <= 20
    assert not read(engine, A, first).recovered
    assert read(engine, A, last).recovered


async def test_sweep_lets_the_loop_work_after_every_few_streams() -> None:
    engine = MemoryEngine(clock=FakeClock())
    for number in range(3000):
        engine.append(Channel(f"{number}"), Message(b"x"), KEEP)
        engine.lease(Channel(f"{number}"), Member("c"), 9)
    swept = 0
    most: list[int] = []

    def retention(channel: Channel) -> Retention:
        nonlocal swept
        swept += 1
        return KEEP

    sweeping = asyncio.ensure_future(engine.sweep(retention))
    turns = 0
    while not sweeping.done():
        before = swept
        await asyncio.sleep(0)
        most.append(swept - before)
        turns += 1
    assert (swept, max(most)) == (3000, 256)
    assert turns >= 22  # leases as well


@pytest.mark.parametrize(
    "url", ["memory://?max_bytes=0", "memory://?max_channels=x", "memory://?size=3", "memory://x"]
)
def test_wrong_bounds_in_the_url_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="engine"):
        MemoryEngine.from_url(url)


def test_bounds_are_read_from_the_url() -> None:
    engine = MemoryEngine.from_url("memory://?max_bytes=1000&max_channels=3")
    assert (engine._max_bytes, engine._max_channels) == (1000, 3)


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
