"""The states of a client, and what moves it from one to another.
Only the machine assigns the state, and only by this table.

                 established                 lost
  CONNECTING ───────────────▶ ONLINE ─────────────────┐
    │  ▲  ▲                                           ▼
    │  │  └────────────────── attempt ──────────── WAITING ◀──┐
    │  └───────── attempt ──────────── OFFLINE ◀──────┘       │ network_up
    └──── lost ───────────────────────────┴────────▶ ─────────┘

CONNECTING  an attempt is under way, or the application is asked for a token
ONLINE      a server has answered: publishes are sent and publications come in
WAITING     no attempt is under way; the next one is planned
OFFLINE     the same, and the system reports that there is no network; attempts go on, at their own pace
CLOSED      for good: by the application, or by a server that said *never*
"""

from enum import Enum
from typing import Final, Literal

__all__ = ["ABNORMAL", "LIMIT_EXCEEDED", "LOCAL", "STREAM_CLOSED", "TRANSITIONS", "Event", "State"]

ABNORMAL: Final = 1006
"""The code of a connection that ended without a close code (RFC 6455 7.1.5)."""

LOCAL: Final = 0
"""The code of a publish or a request that the client itself gives up."""

LIMIT_EXCEEDED: Final = 106
"""The code of an exceeded limit, also one of the client's own (Centrifugal protocol, error codes)."""

STREAM_CLOSED: Final = 2100
"""The code of a subscription that has got all of a durable stream; the reason ends with why it is closed."""


class State(Enum):
    """See the module. Applications see the values."""

    CONNECTING = "connecting"
    ONLINE = "online"
    WAITING = "waiting"
    OFFLINE = "offline"
    CLOSED = "closed"


Event = Literal["attempt", "established", "lost", "network_down", "network_up", "closed"]

TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.WAITING, "attempt"): State.CONNECTING,
    (State.OFFLINE, "attempt"): State.CONNECTING,
    (State.CONNECTING, "established"): State.ONLINE,
    (State.ONLINE, "established"): State.ONLINE,  # moved up the ladder
    (State.ONLINE, "attempt"): State.ONLINE,  # tries to
    (State.CONNECTING, "lost"): State.WAITING,
    (State.ONLINE, "lost"): State.WAITING,
    (State.WAITING, "network_down"): State.OFFLINE,
    (State.OFFLINE, "network_up"): State.WAITING,
    **{(state, "closed"): State.CLOSED for state in State},
}
