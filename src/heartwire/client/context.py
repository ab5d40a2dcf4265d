"""The state that the parts of one machine share: options, time, chance, deadlines and outputs."""

from collections.abc import Callable
from dataclasses import dataclass, field
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


@dataclass(slots=True, eq=False)
class Context:
    """The shared state of one machine."""

    options: Options
    draw: Callable[[], float]  # chance, from 0 to 1
    now: float  # monotonic seconds, set by the machine at each call
    deadlines: dict[Deadline, float] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)  # those the shell has not taken yet
    is_closed: bool = False  # there will be no other connection

    def forget(self, *names: Deadline) -> None:
        """Drop deadlines, where they are set."""
        for name in names:
            self.deadlines.pop(name, None)
