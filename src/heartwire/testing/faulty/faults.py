"""The settings of a `FaultyNetwork`, and its records."""

import dataclasses
from collections.abc import Callable
from typing import Final, Literal

__all__ = ["LOST", "WELL", "ConnectionRecord", "Direction", "Faults", "Tap"]

Direction = Literal["up", "down"]
"""Up is from the client to the server."""


@dataclasses.dataclass(frozen=True, slots=True)
class Faults:
    """All faults that are on. `FaultyNetwork` has a method for each field, with its description."""

    refusing: bool = False
    holding: bool = False
    acknowledging: bool = True
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    cut_after: tuple[int, Direction] | None = None
    buffer_bytes: int | None = None
    answering_502: bool = False
    stripping_upgrade: bool = False
    idle_limit_s: float | None = None
    paths: tuple[str, ...] | None = None

    @property
    def judge_heads(self) -> bool:
        """Whether a fault depends on request heads, so that none may pass before it is complete."""
        return self.answering_502 or self.stripping_upgrade or self.paths is not None

    def meet(self, path: str | None) -> bool:
        """Whether they apply to a connection whose latest request was for ``path``; None: for none yet."""
        return self.paths is None or (path is not None and path.startswith(self.paths))


WELL: Final = Faults()
"""No faults."""

LOST: Final = Faults(holding=True)
"""The faults of a connection that `FaultyNetwork.lose` took: nothing passes."""


@dataclasses.dataclass(slots=True, eq=False)
class ConnectionRecord:
    """One connection, kept up to date while it is open.

    Attributes:
        number: 1 for the first that was accepted.
        opened_at: when it was accepted, by the event loop's clock.
        closed_at: when it was closed in both directions; None while it is open.
        request_line: the first request's, as ``GET /news HTTP/1.1``; empty without one, and without HTTP.
        path: the latest request's target, with its query; None as above.
        bytes_up: payload handed to the server's socket.
        bytes_down: payload handed to the client's socket.
    """

    number: int
    opened_at: float
    closed_at: float | None = None
    request_line: str = ""
    path: str | None = None
    bytes_up: int = 0
    bytes_down: int = 0


Tap = Callable[[ConnectionRecord, Direction, bytes, float], None]
"""Called with each chunk handed to the receiver's socket, and the event loop's time. It must not block."""
