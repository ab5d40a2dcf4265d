"""The clocks and the dice of a node, in one place, so that tests and simulations can replace them."""

import time
from collections.abc import Callable
from random import Random

from heartwire.engines.clock import forward

__all__ = ["Clocks"]


class Clocks:
    """Three clocks, and chance.

    Attributes:
        monotonic: seconds that only go forward: ages, deadlines, limits.
        forward: seconds since 1970 that only go forward: how old publications are, as engines count.
        wall: seconds since 1970, as the system says: the times in tokens, which others wrote.
        chance: draws what is spread over time, so that clients do not come all at once.
    """

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic
        self.forward: Callable[[], float] = forward
        self.wall: Callable[[], float] = time.time
        self.chance = Random()
