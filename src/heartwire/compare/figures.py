"""What a comparison found, as it is written with ``--json``: every number stands beside its unit."""

import msgspec

__all__ = ["Bytes", "Fault", "Figure", "Lane", "Report", "Result", "Series", "Shown", "decode", "encode"]


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A number and its unit. ``value`` is ``None`` where there is none; ``note`` says why, or how it was come
    by."""

    value: float | None
    unit: str
    note: str = ""


class Series(msgspec.Struct, frozen=True):
    """Numbers of one unit."""

    values: list[float]
    unit: str


Bytes = dict[str, Figure]
"""By part (see `heartwire.compare.wire`), and their ``total``."""


class Fault(msgspec.Struct, frozen=True):
    """What a failing link did to the subscribers of one transport.

    Attributes:
        noticed: from the failure until the client knew; the median.
        back: from when the link worked again until the first message; the median.
        caught_up: from then until all had come that was sent before it worked again; the median.
        lost, doubled: of all subscribers.
        arrivals: when messages came to the first subscriber, from the beginning of the run.
        arrivals_sent: when each of these was sent.
        missing: when those were sent that never came to it.
    """

    noticed: Figure
    back: Figure
    caught_up: Figure
    sent: Figure
    lost: Figure
    doubled: Figure
    arrivals: Series
    arrivals_sent: Series
    missing: Series


class Lane(msgspec.Struct, frozen=True):
    """Some seconds of one subscriber's life, from their beginning: what it sent, what was sent to it, what it
    got."""

    up: Series
    down: Series
    arrivals: Series


class Shown(msgspec.Struct, frozen=True):
    """A stretch of bytes as they passed; see `heartwire.compare.wire.Piece`. ``hex``: the first of them."""

    direction: str
    what: str
    hex: str
    size: Figure


class Result(msgspec.Struct, frozen=True):
    """One transport.

    Attributes:
        news: how late messages were, and whether they came.
        cost: of a message that was delivered.
        setup, stream: bytes ``up`` and ``down`` of all subscribers, until they had subscribed, and while
            messages came.
        idle: what a minute without messages costs one subscriber.
    """

    label: str
    news: dict[str, Figure]
    cost: dict[str, Figure]
    setup: dict[str, Bytes]
    stream: dict[str, Bytes]
    idle: dict[str, Figure]
    lane: Lane
    trace: list[Shown]
    cut: Fault | None = None
    half_open: Fault | None = None


class Report(msgspec.Struct, frozen=True):
    """A whole comparison.

    Attributes:
        heartwire: the version.
        when: date and time, UTC.
        server: the URL; "": servers of its own.
        settings: the options, and what was shortened.
        check: what the proxies counted, and what the kernel did.
        notes: what to know when reading it.
        transports: by name, in the order in which to show them.
    """

    heartwire: str
    when: str
    server: str
    settings: dict[str, Figure]
    check: dict[str, Figure]
    notes: list[str]
    transports: dict[str, Result]


def encode(report: Report) -> bytes:
    """As JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def decode(data: bytes) -> Report:
    """Raises ``ValueError`` for what was not written by `encode`."""
    return msgspec.json.decode(data, type=Report)
