"""The shared parts of engines: URLs, epochs, the plan of a read, leases; and when the memory engine forgets."""

from pathlib import Path

import pytest

from heartwire.engines.contract import Retention, epoch_of, plan_read
from heartwire.engines.leases import Leases
from heartwire.engines.memory import MemoryEngine
from heartwire.engines.registry import open_engine
from heartwire.engines.sqlite import SqliteEngine
from heartwire.errors import ConfigError
from heartwire.testing import FakeClock
from heartwire.types import EARLIEST, NOW, Channel, Member, Message, Position, Start

A = Channel("a")


@pytest.mark.parametrize("url", ["memory", "memory://"])
def test_memory_url_names_the_memory_engine(url: str) -> None:
    assert isinstance(open_engine(url), MemoryEngine)


@pytest.mark.parametrize(
    ("url", "path", "synchronous"),
    [
        ("sqlite:///chat.db", "chat.db", "normal"),
        ("sqlite:////var/lib/chat.db", "/var/lib/chat.db", "normal"),
        ("sqlite:///data/chat.db?synchronous=full", "data/chat.db", "full"),
        ("sqlite:///chat.db?synchronous=normal", "chat.db", "normal"),
    ],
)
def test_sqlite_url_names_a_file(url: str, path: str, synchronous: str) -> None:
    engine = open_engine(url)
    assert isinstance(engine, SqliteEngine)
    assert (engine.path, engine.synchronous) == (Path(path), synchronous)


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE"),
        ("chat.db", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE"),
        ("redis://localhost", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE"),
        ("memory:///x", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE"),
        ("memory://?size=5", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE"),
        ("sqlite", "sqlite:///FILE (three slashes), with ?synchronous=full at most"),
        ("sqlite://chat.db", "sqlite:///FILE (three slashes), with ?synchronous=full at most"),
        ("sqlite:///", "sqlite:///FILE (three slashes), with ?synchronous=full at most"),
        ("sqlite:///chat.db?mode=ro", "sqlite:///FILE (three slashes), with ?synchronous=full at most"),
        ("sqlite:///chat.db?synchronous=off", "synchronous is normal or full"),
    ],
)
def test_url_that_names_no_engine_is_told_with_the_fix(url: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_engine(url)
    assert str(caught.value) == f"engine = {url!r}: {fix}"


def test_epoch_is_one_for_each_channel_and_life() -> None:
    assert epoch_of("life", A) == epoch_of("life", A)
    epochs = {epoch_of(f"life {life}", Channel(f"room:{room}")) for life in range(100) for room in range(100)}
    assert len(epochs) == 10_000
    assert all(Position.parse(f"{epoch}.1").epoch == epoch for epoch in epochs)


@pytest.mark.parametrize(
    ("start", "oldest", "plan"),
    [
        (EARLIEST, 4, (3, True)),
        (NOW, 4, (9, True)),
        (Position("e", 9), 4, (9, True)),
        (Position("e", 3), 4, (3, True)),
        (Position("e", 2), 4, (3, False)),
        (Position("e", 10), 4, (3, False)),
        (Position("f", 9), 4, (3, False)),
        (EARLIEST, 10, (9, True)),
        (Position("e", 9), 10, (9, True)),
        (Position("e", 8), 10, (9, False)),
        (Position("", 0), 1, (0, False)),
    ],
)
def test_read_is_planned(start: Start, oldest: int, plan: tuple[int, bool]) -> None:
    assert plan_read(start, Position("e", 9), oldest) == plan


async def test_leases_that_have_expired_are_swept() -> None:
    clock = FakeClock()
    leases = Leases(clock)
    leases.lease(A, Member("c-1"), 10)
    leases.lease(A, Member("c-2"), 20)
    leases.lease(Channel("b"), Member("c-1"), 10)
    clock.advance(15)
    leases.sweep_leases()
    assert {channel: set(held) for channel, held in leases._leases.items()} == {A: {"c-2"}}
    leases.release(A, "c-2")
    assert leases._leases == {}


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
