"""The phases of an HTTP connection, how long each may last, and what its deadline does. Pure.

In: what a connection knows of itself, in numbers. Out: a `Phase`, seconds, a `Verdict`, for
`TimedConnection`.
"""

import math
from enum import Enum
from typing import Final, NamedTuple

__all__ = ["HttpTimes", "Phase", "Verdict", "limit_s", "phase_of", "verdict"]


class Phase(Enum):
    """What a connection waits for."""

    HEAD = "head"
    """The rest of a request's head, or the first byte of a new connection."""
    BODY = "body"
    """The rest of a request's body."""
    ANSWER = "answer"
    """The application: it has deadlines of its own."""
    IDLE = "idle"
    """The next request."""
    UNREAD = "unread"
    """The client, to take its answer."""


class HttpTimes(NamedTuple):
    """Seconds that each phase may last: ``head_s`` in all, the others without progress."""

    head_s: float = 10
    body_s: float = 30
    idle_s: float = 75
    """Longer than a slow client's pause between polls, or each poll would pay for a new connection."""
    write_s: float = 35


class Verdict(Enum):
    """What a deadline does to a connection."""

    GO_ON = "it has time left"
    CLOSE = "nothing is on the way"
    CUT = "what is on the way is not taken: the kernel must not keep it"


BODY_GRACE_S: Final = 5
"""The application's own refusal of a body that does not come, `upload_stalled`, goes first."""


def phase_of(*, is_unread: bool, is_in_head: bool, is_in_body: bool, is_owed: bool) -> Phase:
    """The phase of a connection: the first of these that holds, else `Phase.IDLE`."""
    if is_unread:
        return Phase.UNREAD
    if is_in_head:
        return Phase.HEAD
    if is_in_body:
        return Phase.BODY
    return Phase.ANSWER if is_owed else Phase.IDLE


def limit_s(phase: Phase, times: HttpTimes) -> float:
    """Return the seconds that a phase may last; infinity: as long as the application likes."""
    table = {
        Phase.HEAD: times.head_s,
        Phase.BODY: times.body_s + BODY_GRACE_S,
        Phase.ANSWER: math.inf,
        Phase.IDLE: times.idle_s,
        Phase.UNREAD: times.write_s,
    }
    return table[phase]


def verdict(unsent_bytes: int, silent_s: float, times: HttpTimes) -> Verdict:
    """Judge a connection at its deadline, by the bytes that its client has not taken, and for how long it has
    taken none."""
    if not unsent_bytes:
        return Verdict.CLOSE
    return Verdict.GO_ON if silent_s < times.write_s * 0.99 else Verdict.CUT
