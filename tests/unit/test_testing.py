"""The tools that ship to users."""

import pytest

from heartwire import testing
from heartwire.testing import FakeClock
from heartwire.testing import engines as suite


def test_clock_moves_only_when_it_is_told() -> None:
    clock = FakeClock(100)
    assert (clock(), clock()) == (100, 100)
    assert clock.advance(2.5) == 102.5
    assert clock() == 102.5
    with pytest.raises(ValueError, match="cannot go back by 1 s"):
        clock.advance(-1)


def test_every_check_of_engines_is_in_the_suite() -> None:
    # A check that is written and not listed would never run.
    module = {name for name, value in vars(suite).items() if callable(value) and getattr(value, "__module__", "") == suite.__name__}
    checks = {check.__name__ for check in (*suite.CHECKS, *suite.DURABLE_CHECKS)}
    others = {"Bench", "PromiseBroken", "check_engine", "promise"}
    assert {name for name in module if not name.startswith("_")} == checks | others


def test_what_is_exported_is_there() -> None:
    assert all(hasattr(testing, name) for name in testing.__all__)
    assert sorted(testing.__all__) == sorted(set(testing.__all__))
