"""The states of a client, what moves it from one to another, and what a close code asks of it.
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

__all__ = ["ABNORMAL", "LIMIT_EXCEEDED", "LOCAL", "TRANSITIONS", "Event", "State", "Verdict", "verdict"]

ABNORMAL: Final = 1006
"""The code of a connection that ended without a close code (RFC 6455 7.1.5)."""

LOCAL: Final = 0
"""The code of a publish or a request that the client itself gives up."""

LIMIT_EXCEEDED: Final = 106
"""The code of an exceeded limit, also one of the client's own (Centrifugal protocol, error codes)."""


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

Verdict = Literal["now", "later", "token", "never"]
"""What a client does after the server ended its connection: reconnect after the usual wait, after a longer
one, with a new token, or never."""

_LATER: Final = frozenset({1013, 3013})
_TOKEN: Final = frozenset({3005, 3500})
_STALE: Final = 3502


def verdict(code: int) -> Verdict:
    """Return what a close code asks for: RFC 6455 7.4.1, the IANA registry, the ranges of `heartwire.codes`.

    1009 (a message was too large) is *now*: the message is rejected, and the client goes on. So is 3502
    (*stale*: no `connect` came in time), in spite of its range: ours is sent at once, so the network has
    swallowed it.
    """
    if code in _TOKEN:
        return "token"
    if code in _LATER:
        return "later"
    if code == _STALE:
        return "now"
    if code in (1002, 1003, 1007, 1008, 1010) or 3500 <= code < 4000 or 4500 <= code < 5000:
        return "never"
    return "now"
