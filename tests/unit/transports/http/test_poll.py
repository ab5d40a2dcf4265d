"""The jitter of polls."""

import random

import pytest

from heartwire.transports.http.poll import jittered_wait_s


@pytest.mark.parametrize(("chance", "wait_s"), [(1.0, 27.0), (0.5, 28.5), (0.0, 30.0)])
def test_poll_is_held_for_nine_tenths_of_its_wait_to_all_of_it(
    chance: float, wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: chance)
    assert jittered_wait_s(30) == pytest.approx(wait_s)
