"""The state that the parts of one machine share: options, time, chance, deadlines and outputs."""

from collections.abc import Callable
from typing import Literal

from heartwire.client.options import Options
from heartwire.client.outputs import Output

__all__ = ["Context", "Deadline"]

Deadline = Literal[
    "token",
    "open",
    "probe",
    "silence",
    "sending",
    "attempt",
    "refresh",
    "poll",
    "resend",
    "resubscribe",
    "publish",
    "request",
    "upgrade",
    "tick",
]
"""The names of deadlines. `heartwire.client.machine` has the table of their handlers."""


class Context:
    """The shared state of one machine.

    Attributes:
        options: checked ones.
        draw: chance, from 0 to 1.
        now: monotonic seconds, set by the machine at each call.
        deadlines: when each is due.
        outputs: those the shell has not taken yet.
        is_closed: there will be no other connection.
    """

    def __init__(self, options: Options, *, draw: Callable[[], float], now: float) -> None:
        self.options = options
        self.draw = draw
        self.now = now
        self.deadlines: dict[Deadline, float] = {}
        self.outputs: list[Output] = []
        self.is_closed = False

    def forget(self, *names: Deadline) -> None:
        """Drop deadlines, where they are set."""
        for name in names:
            self.deadlines.pop(name, None)
