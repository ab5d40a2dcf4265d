"""The figures of a comparison, as ``--json`` writes them: every number beside its unit."""

import msgspec

__all__ = ["Bytes", "Fault", "Figure", "Lane", "Report", "Result", "Series", "Shown", "decode", "encode"]


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A number and its unit. ``note`` says how it was measured, or why ``value`` is ``None``."""

    value: float | None
    unit: str
    note: str = ""


class Series(msgspec.Struct, frozen=True):
    """Numbers of one unit."""

    values: list[float]
    unit: str


Bytes = dict[str, Figure]
"""By part (see `heartwire.compare.wire`), with their ``total``."""


class Fault(msgspec.Struct, frozen=True):
    """The effects of a failing link on the subscribers of one transport. Times are medians.

    Attributes:
        noticed: from the failure until the client noticed.
        back: from the repair of the link to the first message.
        caught_up: from the repair until all messages sent before it had come.
        sent, lost, doubled: summed over all subscribers.
        arrivals: when messages came to the first subscriber, from the beginning of the run.
        arrivals_sent: when each of these was sent.
        missing: when the messages that never came to it were sent.
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
    """Some seconds of one subscriber: when it sent bytes, when bytes were sent to it, when messages came."""

    up: Series
    down: Series
    arrivals: Series


class Shown(msgspec.Struct, frozen=True):
    """A stretch of recorded bytes; see `heartwire.compare.wire.Piece`. ``hex``: the first of them."""

    direction: str
    what: str
    hex: str
    size: Figure


class Result(msgspec.Struct, frozen=True):
    """The figures of one transport.

    Attributes:
        news: latency, and how many messages came.
        cost: per delivered message.
        setup, stream: bytes ``up`` and ``down`` of all subscribers, until they had subscribed, and after.
        idle: the bytes of a minute without messages, of one subscriber.
        trace: recorded bytes of the first connection of the first subscriber.
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

    def figure(self, group: str, key: str) -> Figure:
        """A figure of ``news``, ``cost``, ``idle``, ``cut`` or ``half_open``; no value if not measured."""
        found = getattr(self, group)
        if found is None:
            return Figure(None, "")
        figure: Figure = found[key] if isinstance(found, dict) else getattr(found, key)
        return figure


class Report(msgspec.Struct, frozen=True):
    """A whole comparison.

    Attributes:
        heartwire: the version.
        when: date and time, UTC.
        server: the URL; "": servers of its own.
        settings: the options, the defaults, and what was shortened.
        check: the bytes counted by the proxies and by the kernel.
        notes: remarks on how it was measured.
        transports: by name, in display order.
    """

    heartwire: str
    when: str
    server: str
    settings: dict[str, Figure]
    check: dict[str, Figure]
    notes: list[str]
    transports: dict[str, Result]


def encode(report: Report) -> bytes:
    """The report as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def decode(data: bytes) -> Report:
    """Read what `encode` wrote. Raises ``ValueError`` for anything else."""
    return msgspec.json.decode(data, type=Report)
