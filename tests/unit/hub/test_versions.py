"""Versions of publications: an older one does not replace a newer, and what failed does not count."""

import pytest

from heartwire.hub.versions import Versions
from heartwire.types import Channel, Position

A = Channel("a")
DAY_S = 86400


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def stored() -> Position:
    return Position("e", 1)


async def test_older_and_equal_versions_of_an_epoch_are_left_out() -> None:
    versions = Versions(Clock())
    taken = [await versions.publish(A, version, "x", stored) is not None for version in (5, 5, 4, 6)]
    assert taken == [True, False, False, True]
    assert await versions.publish(A, 1, "y", stored) is not None, "another epoch counts from the start"


@pytest.mark.parametrize("before", [None, 3])
async def test_a_version_that_was_not_stored_can_be_published_again(before: int | None) -> None:
    versions = Versions(Clock())
    if before is not None:
        await versions.publish(A, before, "x", stored)

    async def fails() -> Position:
        raise OSError("a fault")

    with pytest.raises(OSError, match="a fault"):
        await versions.publish(A, 4, "x", fails)
    if before is not None:
        assert await versions.publish(A, before, "x", stored) is None, "the last that was stored still counts"
    assert await versions.publish(A, 4, "x", stored) is not None


async def test_a_failure_does_not_undo_a_newer_version() -> None:
    versions = Versions(Clock())

    async def fails_later() -> Position:
        assert await versions.publish(A, 9, "x", stored) is not None
        raise OSError("a fault")

    with pytest.raises(OSError, match="a fault"):
        await versions.publish(A, 4, "x", fails_later)
    assert await versions.publish(A, 8, "x", stored) is None


async def test_versions_are_forgotten_after_thirty_days() -> None:
    clock = Clock()
    versions = Versions(clock)
    await versions.publish(A, 5, "x", stored)
    clock.now = 29 * DAY_S
    await versions.publish(Channel("b"), 1, "x", stored)
    assert await versions.publish(A, 5, "x", stored) is None
    clock.now = 31 * DAY_S
    await versions.publish(Channel("b"), 2, "x", stored)
    assert await versions.publish(A, 5, "x", stored) is not None
