"""What passed through one subscriber's proxy: every byte counted, and when it passed."""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from heartwire.compare.wire import PARTS, Conversation, Counts, Direction, Part
from heartwire.testing.faulty import ConnectionRecord

__all__ = ["Beat", "Meter", "Passed", "Reading", "beats"]

_MAX_PASSED: Final = 100_000
_QUIET_S: Final = 0.4
"""What is closer together is one exchange; the shortest cycle that is compared is 1 s."""


class Passed(NamedTuple):
    """Some bytes that passed: when, which way, and how many of which part."""

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
        """What was counted since an earlier reading."""
        up, down = _difference(self.up, before.up), _difference(self.down, before.down)
        return Reading(up, down, self.requests - before.requests, self.connections - before.connections)

    @classmethod
    def sum(cls, readings: Iterable["Reading"]) -> "Reading":
        """Of several meters."""
        total = cls(Counts(), Counts(), 0, 0)
        for one in readings:
            total.up.add(one.up)
            total.down.add(one.down)
            total = total._replace(
                requests=total.requests + one.requests, connections=total.connections + one.connections
            )
        return total


def _difference(now: Counts, before: Counts) -> Counts:
    counts = Counts()
    for part in PARTS:
        counts.by_part[part] = now.by_part[part] - before.by_part[part]
    return counts


class Meter:
    """Give `tap` to a `FaultyNetwork`."""

    def __init__(self) -> None:
        self.conversations: dict[ConnectionRecord, Conversation] = {}
        self.passed: deque[Passed] = deque(maxlen=_MAX_PASSED)

    def tap(self, record: ConnectionRecord, direction: Direction, data: bytes, at: float) -> None:
        """See `heartwire.testing.faulty.Tap`."""
        conversation = self.conversations.get(record)
        if conversation is None:
            conversation = self.conversations[record] = Conversation()
        before = getattr(conversation, direction)
        conversation.feed(direction, data)
        self.passed.append(
            Passed(at, direction, _difference(getattr(conversation, direction), before).by_part)
        )

    def read(self) -> Reading:
        """The counters now."""
        reading = Reading(Counts(), Counts(), 0, len(self.conversations))
        for conversation in self.conversations.values():
            reading.up.add(conversation.up)
            reading.down.add(conversation.down)
        return reading._replace(requests=sum(one.requests for one in self.conversations.values()))


class Beat(NamedTuple):
    """One exchange on an idle connection."""

    up: Counts
    down: Counts


def beats(passed: Iterable[Passed], since: float, until: float) -> list[Beat]:
    """The exchanges between two moments: what passed, in groups with silence between. Those at the edges are
    left out."""
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
        counts = beat.up if one.direction == "up" else beat.down
        for part, size in one.by_part.items():
            counts.by_part[part] += size
    return beat
