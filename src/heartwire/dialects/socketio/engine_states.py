"""The states of an Engine.IO session, and the table of its moves.

                 polls                  probed                  upgraded
    OPENING ──────────────▶ POLLING ───────────▶ UPGRADING ────────────────▶ WEBSOCKET
       │                      ▲  │  probe_lost      │  │                         │
       │                      └──┼──────────────────┘  │ closed                  │ closed
       │                         └────────▶ CLOSING ◀──┘                         │
       │ opens_socket                          │ polled                          ▼
       └──────────────────────────────────▶ WEBSOCKET ─────────────────────▶  CLOSED

CLOSING waits for the one poll that tells the client; whatever is lost ends in CLOSED. `Handler.closed` is
called once, with the first of the two.
"""

from enum import Enum
from typing import Final

__all__ = ["CLOSED", "CLOSING", "OPENING", "POLLING", "TRANSITIONS", "UPGRADING", "WEBSOCKET", "State"]


class State(Enum):
    OPENING = "opening"
    POLLING = "polling"
    UPGRADING = "upgrading"  # polls, and a WebSocket that has not taken over yet
    WEBSOCKET = "websocket"
    CLOSING = "closing"  # one more poll is to be told
    CLOSED = "closed"

    __hash__ = object.__hash__  # Enum's own is a Python function


OPENING: Final = State.OPENING
POLLING: Final = State.POLLING
UPGRADING: Final = State.UPGRADING
WEBSOCKET: Final = State.WEBSOCKET
CLOSING: Final = State.CLOSING
CLOSED: Final = State.CLOSED

TRANSITIONS: Final[dict[tuple[State, str], State]] = {
    (OPENING, "polls"): POLLING,
    (OPENING, "opens_socket"): WEBSOCKET,
    (POLLING, "probed"): UPGRADING,
    (UPGRADING, "probe_lost"): POLLING,
    (UPGRADING, "upgraded"): WEBSOCKET,
    (UPGRADING, "moved"): CLOSED,
    (POLLING, "closed"): CLOSING,
    (UPGRADING, "closed"): CLOSING,
    (WEBSOCKET, "closed"): CLOSED,
    (CLOSING, "polled"): CLOSED,
    **{(state, "lost"): CLOSED for state in State},
}
