"""Counts the bytes that pass one subscriber's proxy, and when they pass."""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from heartwire.compare.wire import PARTS, Conversation, Counts, Direction, Part
from heartwire.testing.faulty import ConnectionRecord

__all__ = ["Beat", "Meter", "Passed", "Reading", "beats"]

_MAX_PASSED: Final = 100_000
_QUIET_S: Final = 0.4
"""Bytes closer together are one exchange; the shortest period compared is 1 s."""


class Passed(NamedTuple):
    """Some bytes: when they passed, which way, and how many of each part."""

    at: float
    direction: Direction
    by_part: dict[Part, int]


class Reading(NamedTuple):
    """The counters at one moment."""

    up: Counts
    down: Counts
    requests: int
    connections: int

    def since(self, before: "Reading") -> "Reading":
        """The difference to an earlier reading."""
        up, down = _difference(self.up, before.up), _difference(self.down, before.down)
        return Reading(up, down, self.requests - before.requests, self.connections - before.connections)

    @classmethod
    def sum(cls, readings: Iterable["Reading"]) -> "Reading":
        """The sum over several meters."""
        up, down, requests, connections = Counts(), Counts(), 0, 0
        for one in readings:
            up.add(one.up)
            down.add(one.down)
            requests, connections = requests + one.requests, connections + one.connections
        return cls(up, down, requests, connections)


def _difference(now: Counts, before: Counts) -> Counts:
    return Counts({part: now.by_part[part] - before.by_part[part] for part in PARTS})


class Meter:
    """The counters of one subscriber. Give `tap` to its `FaultyNetwork`."""

    def __init__(self) -> None:
        self.conversations: dict[ConnectionRecord, Conversation] = {}
        self.passed: deque[Passed] = deque(maxlen=_MAX_PASSED)

    def tap(self, record: ConnectionRecord, direction: Direction, data: bytes, at: float) -> None:
        conversation = self.conversations.get(record)
        if conversation is None:
            conversation = self.conversations[record] = Conversation()
        before = getattr(conversation, direction)
        conversation.feed(direction, data)
        added = _difference(getattr(conversation, direction), before)
        self.passed.append(Passed(at, direction, added.by_part))

    def read(self) -> Reading:
        return Reading.sum(Reading(one.up, one.down, one.requests, 1) for one in self.conversations.values())


class Beat(NamedTuple):
    """One exchange on an idle connection."""

    up: Counts
    down: Counts


def beats(passed: Iterable[Passed], since: float, until: float) -> list[Beat]:
    """The exchanges between two moments: groups of bytes with silence between, without those at the edges."""
    groups: list[list[Passed]] = []
    last = float("-inf")
    for one in passed:
        if one.at - last > _QUIET_S:
            groups.append([])
        groups[-1].append(one)
        last = one.at
    return [_beat(group) for group in groups if group[0].at > since and group[-1].at < until - _QUIET_S]


def _beat(group: list[Passed]) -> Beat:
    beat = Beat(Counts(), Counts())
    for one in group:
        (beat.up if one.direction == "up" else beat.down).add(Counts(one.by_part))
    return beat
