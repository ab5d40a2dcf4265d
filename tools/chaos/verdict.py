"""The verdict over a run: what was acknowledged, against what each reader was told. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from heartwire.types import Position

__all__ = ["Ack", "Event", "Gap", "Kept", "Run", "Seen", "Tale", "verdict"]


class Kept(Enum):
    """What a store that was killed has, of what it had answered."""

    ALL = "all, at the same positions"
    RENAMED = "all, in another epoch"
    NOTHING = "nothing"


class Ack(NamedTuple):
    """A publish that was answered. ``body``: the name of the publisher and a number, which counts its
    publishes in this channel from 0."""

    channel: str
    body: str
    position: Position


class Seen(NamedTuple):
    """A publication, as a reader got it."""

    position: Position
    body: str


class Gap(NamedTuple):
    """A reader was told that what it had cannot be continued; it goes on after this position."""

    after: Position


Event = Seen | Gap


@dataclass
class Tale:
    """What one reader got of one channel, from the earliest on. ``start``: where it was told to be before
    anything came."""

    reader: str
    channel: str
    events: list[Event] = field(default_factory=list)
    start: Position | None = None

    def __str__(self) -> str:
        return f"{self.reader} of {self.channel}"

    @property
    def at(self) -> Position | None:
        """Where it is."""
        match self.events[-1:]:
            case [Seen(position) | Gap(position)]:
                return position
        return self.start

    def begin(self, position: Position) -> None:
        """Take the position that it was told to be at; it counts before anything came."""
        if self.at is None:
            self.start = position

    @property
    def seen(self) -> list[Seen]:
        return [event for event in self.events if isinstance(event, Seen)]


class Run(NamedTuple):
    """A run that is over: all is healed, and every reader had the time to get everything.

    Attributes:
        sent: how often each publisher has published in each channel, by (channel, publisher).
        kept: of the store.
        store_kills: how often it was killed.
    """

    acks: Sequence[Ack]
    tales: Sequence[Tale]
    sent: Mapping[tuple[str, str], int]
    kept: Kept
    store_kills: int


def verdict(run: Run) -> list[str]:
    """The broken promises, in words:

    * each reader sees every acknowledged publication of a channel once, offset by offset, and all come to one
      end;
    * a gap is told, and only where the store has begun another epoch; what is missing then was acknowledged
      before, by a store that had to forget it;
    * a position has one content, whoever is told of it; a publication has one position in an epoch;
    * what a publisher has sent in its order is in that order.
    """
    problems = [problem for tale in run.tales for problem in _walk(tale, run.kept)]
    truth, differing = _truth(run)
    problems += differing
    for channel in sorted(truth):
        problems += _epochs(channel, truth[channel], run)
        for epoch, bodies in truth[channel].items():
            problems += _stream(channel, epoch, bodies, run)
    return problems + list(_ends(run)) + [problem for tale in run.tales for problem in _complete(tale, run)]


def _walk(tale: Tale, kept: Kept) -> Iterator[str]:
    """Whether one thing follows the other."""
    at = tale.start
    for event in tale.events:
        if isinstance(event, Gap):
            if kept is Kept.ALL or (at is not None and at.epoch == event.after.epoch):
                yield f"{tale}: a gap to {event.after} was told at {at}; nothing had to be missing there"
            elif event.after.offset:
                yield f"{tale}: the gap told at {at} goes on after {event.after}, and not with the first"
            at = event.after
            continue
        position = event.position
        expected = Position(position.epoch, 1) if at is None else Position(at.epoch, at.offset + 1)
        came = f"{tale}: {position} came after {at or 'nothing'}"
        if position.epoch != expected.epoch or position.offset > expected.offset:
            yield f"{came}: lost without a word"
        elif position.offset < expected.offset:
            yield f"{came}: doubled, or swapped"
        at = position


_Truth = dict[str, dict[str, dict[int, str]]]
"""By channel, epoch and offset."""


def _truth(run: Run) -> tuple[_Truth, list[str]]:
    truth: _Truth = defaultdict(lambda: defaultdict(dict))
    said: dict[tuple[str, Position], str] = {}
    problems = []
    told = [(str(tale), tale.channel, *seen) for tale in run.tales for seen in tale.seen]
    for who, channel, position, body in [
        *(("acknowledged", ack.channel, ack.position, ack.body) for ack in run.acks),
        *told,
    ]:
        true = truth[channel][position.epoch].setdefault(position.offset, body)
        if true != body:
            before = said[channel, position]
            problems.append(f"{channel} {position}: {body!r} ({who}), and {true!r} ({before})")
        said.setdefault((channel, position), who)
    return truth, problems


def _epochs(channel: str, epochs: Mapping[str, object], run: Run) -> Iterator[str]:
    allowed = 1 if run.kept is Kept.ALL else 1 + run.store_kills
    if len(epochs) > allowed:
        yield f"{channel}: {len(epochs)} epochs, and the store was killed {run.store_kills} times"


def _stream(channel: str, epoch: str, bodies: Mapping[int, str], run: Run) -> Iterator[str]:
    """Whether one epoch of a stream has what was sent, in order."""
    last: dict[str, tuple[int, int]] = {}
    for offset, body in sorted(bodies.items()):
        where = f"{channel} {Position(epoch, offset)}"
        publisher, _, number = body.rpartition(" ")
        if not number.isdecimal() or int(number) >= run.sent.get((channel, publisher), 0):
            yield f"{where}: {body!r} was never published: invented"
            continue
        before, at = last.get(publisher, (-1, 0))
        if int(number) == before:
            yield f"{where}: {body!r} is at {at} too: doubled"
        elif int(number) < before:
            yield f"{where}: {body!r} comes after '{publisher} {before}' at {at}: swapped, or doubled"
        last[publisher] = max((int(number), offset), (before, at))


def _ends(run: Run) -> Iterator[str]:
    """Whether all readers of a channel are where the others are."""
    for channel in sorted({tale.channel for tale in run.tales}):
        ends = {str(tale): tale.at for tale in run.tales if tale.channel == channel}
        if len(set(ends.values())) > 1:
            yield f"{channel}: not all are at one end: " + ", ".join(
                f"{who} {at}" for who, at in ends.items()
            )


def _complete(tale: Tale, run: Run) -> Iterator[str]:
    """Whether a reader has all that was acknowledged, and nothing again that was."""
    epochs = list(dict.fromkeys(seen.position.epoch for seen in tale.seen))
    seen_in: dict[str, list[str]] = defaultdict(list)
    for seen in tale.seen:
        seen_in[seen.body].append(seen.position.epoch)
    last = tale.at.epoch if tale.at is not None else ""
    for ack in run.acks:
        if ack.channel != tale.channel:
            continue
        epoch = ack.position.epoch
        came_in = seen_in[ack.body]
        if run.kept is not Kept.NOTHING:
            if not came_in:
                yield f"{tale}: {ack.body!r}, acknowledged at {ack.position}, never came: lost"
        elif epoch not in came_in and epoch == last:
            yield f"{tale}: {ack.body!r}, acknowledged at {ack.position}, never came: lost"
        elif epoch in epochs and any(epochs.index(one) > epochs.index(epoch) for one in came_in):
            again = f"came again in {came_in[-1]}"
            yield f"{tale}: {ack.body!r}, acknowledged at {ack.position}, {again}: doubled"
