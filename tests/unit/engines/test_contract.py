"""The shared parts of engines: epochs, and the plan of a read."""

import pytest

from heartwire.engines.contract import epoch_of, plan_read
from heartwire.types import EARLIEST, NOW, Channel, Position, Start

A = Channel("a")


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
