"""The clocks of a node, in one place, so that tests and simulations can replace them."""

import time
from collections.abc import Callable

__all__ = ["Clocks"]


class Clocks:
    """Two clocks.

    Attributes:
        monotonic: seconds that only go forward: ages, deadlines, limits.
        wall: seconds since 1970: the times in tokens.
    """

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = time.time
