"""The jitter of polls."""

from random import Random

import pytest

from heartwire.transports.http.poll import jittered_wait_s


class Fixed(Random):
    """Draws one number for ever."""

    def __init__(self, drawn: float) -> None:
        super().__init__()
        self.drawn = drawn

    def random(self) -> float:
        return self.drawn


@pytest.mark.parametrize(("drawn", "wait_s"), [(1.0, 27.0), (0.5, 28.5), (0.0, 30.0)])
def test_poll_is_held_for_nine_tenths_of_its_wait_to_all_of_it(drawn: float, wait_s: float) -> None:
    assert jittered_wait_s(30, Fixed(drawn)) == pytest.approx(wait_s)
