"""What the client's machine wants done, and what it has to tell. Values: the machine makes them, a shell
carries them out.

``generation`` names one connection. What comes from a connection that is not the machine's any more is
dropped by it.
"""

from typing import NamedTuple

__all__ = [
    "Answered",
    "AskToken",
    "Close",
    "Closed",
    "Delivered",
    "Failed",
    "Gap",
    "Message",
    "Note",
    "Open",
    "Output",
    "Poll",
    "Published",
    "Rejected",
    "Send",
    "Session",
    "StateChanged",
    "Subscribed",
    "Unsubscribed",
]


# -- for the transports --------------------------------------------------------------------------------------


class Open(NamedTuple):
    """Open a connection and send ``frame`` as the first (``websocket``), or in the request that opens it
    (``sse``)."""

    generation: int
    transport: str
    frame: str


class Session(NamedTuple):
    """What the requests of a `Send` have to show on ``sse`` (Centrifugal protocol, emulation)."""

    generation: int
    session: str
    node: str


class Send(NamedTuple):
    """Send a frame, after all before it. On a transport that polls, in a request of its own."""

    generation: int
    frame: str


class Poll(NamedTuple):
    """Ask for news, and let the server hold the answer so long. The request before it, if it is still out, is
    dropped."""

    generation: int
    frame: str
    wait_s: float


class Close(NamedTuple):
    """Take your ears off this connection, then close it, whatever state it is in."""

    generation: int


class AskToken(NamedTuple):
    """Ask the application for a token; to be answered by `Machine.token` or `Machine.no_token`."""


# -- for the application -------------------------------------------------------------------------------------


class StateChanged(NamedTuple):
    """The client's state, and why."""

    state: str
    reason: str


class Delivered(NamedTuple):
    """A publication: next in its channel. ``data`` is JSON; ``encoding`` of what (see
    `heartwire.client.wire.Pub`)."""

    channel: str
    epoch: str
    offset: int
    data: str
    encoding: str
    user: str
    client: str


class Gap(NamedTuple):
    """What was published after ``before_…`` and up to ``after_…`` can't be had any more. Delivery goes on
    after the latter."""

    channel: str
    before_epoch: str
    before_offset: int
    after_epoch: str
    after_offset: int


class Subscribed(NamedTuple):
    """A channel is followed, from this position on; told again after each reconnection."""

    channel: str
    epoch: str
    offset: int
    was_recovered: bool


class Unsubscribed(NamedTuple):
    """A channel is followed no more, by the server's will."""

    channel: str
    code: int
    reason: str


class Published(NamedTuple):
    """A publish was kept, at this position (epoch "" where the server does not tell)."""

    key: str
    epoch: str
    offset: int


class Rejected(NamedTuple):
    """A publish is given up. ``is_unknown``: it may have been published all the same."""

    key: str
    code: int
    message: str
    is_unknown: bool


class Answered(NamedTuple):
    """A request was answered with ``result``, JSON."""

    request: int
    result: str


class Failed(NamedTuple):
    """A request was refused, or is given up. ``is_unknown``: it may have been carried out all the same."""

    request: int
    code: int
    message: str
    is_unknown: bool


class Message(NamedTuple):
    """A message of the server's that belongs to no channel; JSON."""

    data: str


class Closed(NamedTuple):
    """A connection that was open is gone, or an attempt has failed: why, and when there is another (-1:
    never)."""

    code: int
    reason: str
    was_open: bool
    next_attempt_s: float


class Note(NamedTuple):
    """What the ladder does, in words, for people who look."""

    text: str


Output = (
    Open
    | Session
    | Send
    | Poll
    | Close
    | AskToken
    | StateChanged
    | Delivered
    | Gap
    | Subscribed
    | Unsubscribed
    | Published
    | Rejected
    | Answered
    | Failed
    | Message
    | Closed
    | Note
)
