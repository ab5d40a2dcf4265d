"""The tools that ship to users."""

import pytest

from heartwire import testing
from heartwire.testing import FakeClock


def test_clock_moves_only_when_it_is_told() -> None:
    clock = FakeClock(100)
    assert (clock(), clock()) == (100, 100)
    assert clock.advance(2.5) == 102.5
    assert clock() == 102.5
    with pytest.raises(ValueError, match="cannot go back by 1 s"):
        clock.advance(-1)


def test_what_is_exported_is_there() -> None:
    assert all(hasattr(testing, name) for name in testing.__all__)
    assert sorted(testing.__all__) == sorted(set(testing.__all__))
