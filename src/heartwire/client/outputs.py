"""Outputs of the client's machine: values that a shell carries out, or hands to the application.

``generation`` names one connection. The machine ignores what comes from a connection that is over.
"""

from typing import Literal, NamedTuple

from heartwire.client.wire import Pub

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
    "NoteKind",
    "OfChannel",
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
    """Open a connection; ``frame`` is its first, or (``sse``) in the request that opens it."""

    generation: int
    transport: str
    frame: str


class Session(NamedTuple):
    """The session that a `Send` on ``sse`` belongs to (Centrifugal protocol, emulation)."""

    generation: int
    session: str
    node: str


class Send(NamedTuple):
    """Send a frame, after those before it; in a request of its own on every transport but ``websocket``."""

    generation: int
    frame: str


class Poll(NamedTuple):
    """Send a poll, which the server may hold for ``wait_s``. Drop the last one, if it is still in flight."""

    generation: int
    frame: str
    wait_s: float


class Close(NamedTuple):
    """Ignore this connection from now on, and close it, whatever state it is in."""

    generation: int


class AskToken(NamedTuple):
    """Ask the application for a token. `Machine.token` or `Machine.no_token` takes the answer."""


# -- for the application -------------------------------------------------------------------------------------


class StateChanged(NamedTuple):
    """The client's state, and why."""

    state: str
    reason: str


class Delivered(NamedTuple):
    """The next publication of a channel; ``data`` and ``encoding`` as in `heartwire.client.wire.Pub`."""

    channel: str
    epoch: str
    offset: int
    data: str
    encoding: str
    user: str
    client: str

    @classmethod
    def of(cls, channel: str, epoch: str, pub: Pub) -> "Delivered":
        """Return the output for a publication from the wire."""
        user, client = (pub.info.user, pub.info.client) if pub.info is not None else ("", "")
        data, encoding = bytes(pub.data).decode(), pub.tags.get("encoding", "")
        return cls(channel, epoch, pub.offset, data, encoding, user, client)


class Gap(NamedTuple):
    """Publications after ``before_…`` up to ``after_…`` are no longer available; delivery goes on there."""

    channel: str
    before_epoch: str
    before_offset: int
    after_epoch: str
    after_offset: int


class Subscribed(NamedTuple):
    """A channel is subscribed, from this position on; again after each reconnection."""

    channel: str
    epoch: str
    offset: int
    was_recovered: bool


class Unsubscribed(NamedTuple):
    """The server has ended a subscription, or refused it."""

    channel: str
    code: int
    reason: str


class Published(NamedTuple):
    """A publish was accepted, at this position; epoch "" where the server gives none."""

    key: str
    epoch: str
    offset: int


class Rejected(NamedTuple):
    """A publish was refused or given up. ``is_unknown``: the server may have accepted it all the same."""

    key: str
    code: int
    message: str
    is_unknown: bool


class Answered(NamedTuple):
    """A request was answered with ``result``, as JSON."""

    request: int
    result: str


class Failed(NamedTuple):
    """A request was refused or given up. ``is_unknown``: it may have been carried out all the same."""

    request: int
    code: int
    message: str
    is_unknown: bool


class Message(NamedTuple):
    """A message of the server outside of channels, as JSON."""

    data: str


class Closed(NamedTuple):
    """A connection ended or an attempt failed; seconds to the next attempt (-1: there is none)."""

    code: int
    reason: str
    was_open: bool
    next_attempt_s: float


NoteKind = Literal["moved_up", "stepped_down", "not_yet", "polls_cut"]


class Note(NamedTuple):
    """A step on the ladder of transports; ``str()`` says it in words.

    Attributes:
        kind: ``moved_up``: from ``transport`` to the better ``next``. ``stepped_down``: ``transport`` does
            not work, and ``next`` is tried. ``not_yet``: the better ``transport`` does not work yet.
            ``polls_cut``: something between client and server cuts long polls.
        transport: its name.
        reason: why, or what the client does about it.
        next: the transport tried from now on; "" where that does not change.
    """

    kind: NoteKind
    transport: str
    reason: str
    next: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "moved_up":
                return f"moved up from {self.transport} to {self.next}"
            case "stepped_down":
                return f"{self.transport}: {self.reason}; trying {self.next}"
            case "not_yet":
                return f"{self.transport} does not work yet: {self.reason}"
            case "polls_cut":
                return f"long polls are cut in between: {self.reason}"


OfChannel = Delivered | Gap | Subscribed | Unsubscribed
_OfConnection = Open | Session | Send | Poll | Close
_OfCall = Published | Rejected | Answered | Failed
Output = OfChannel | _OfConnection | _OfCall | AskToken | StateChanged | Message | Closed | Note
