"""The clock that tests move by hand."""

import pytest

from heartwire.testing import FakeClock


def test_clock_moves_only_by_advance() -> None:
    clock = FakeClock(100)
    assert (clock(), clock()) == (100, 100)
    assert clock.advance(2.5) == 102.5
    assert clock() == 102.5
    with pytest.raises(ValueError, match="cannot go back by 1 s"):
        clock.advance(-1)
