"""What the program of a simulated Socket.IO server has done: events emitted, rooms that clients were in.

In: what is begun and done, from the program. Out: which events a client has to get, and which it must not.
"""

import itertools
import math
from collections import defaultdict

__all__ = ["ALL", "Emitted", "Model", "Move"]

ALL = ""
"""The room that every client of the namespace is in."""


class Move:
    """A client enters or leaves a room: from ``begun`` on it may be so, from ``done`` on it is."""

    __slots__ = ("begun", "done", "is_in")

    def __init__(self, begun: int, *, is_in: bool) -> None:
        self.begun = begun
        self.done: float = math.inf
        self.is_in = is_in


class Emitted:
    """One event.

    Attributes:
        rooms: whom it is for; `ALL` is one.
        begun: when it was emitted; `kept`: when that had returned, for ever later where it has not.
    """

    __slots__ = ("begun", "kept", "number", "rooms", "skip")

    def __init__(self, number: int, rooms: list[str], skip: list[str], begun: int) -> None:
        self.number, self.rooms, self.skip, self.begun = number, rooms, skip, begun
        self.kept: float = math.inf


class Model:
    """See the module. Times are those of a counter: of two things one is first.

    Args:
        is_shared: whether there are several nodes, which hear of events later than they are kept.
    """

    def __init__(self, *, is_shared: bool) -> None:
        self.events: dict[int, Emitted] = {}
        self._is_shared = is_shared
        self._time = itertools.count(1).__next__
        self._moves: dict[tuple[str, str], list[Move]] = defaultdict(list)
        self._rooms: dict[str, list[str]] = defaultdict(list)
        self._under_way: dict[tuple[str, str], Move] = {}
        self._closings: dict[str, list[Move]] = defaultdict(list)

    # -- rooms -----------------------------------------------------------------------------------------------

    def begin(self, sid: str, room: str, *, is_in: bool) -> Move | None:
        """A client begins to enter or leave a room; ``None``: it does so already."""
        if (sid, room) in self._under_way:
            return None
        moves = self._moves[sid, room]
        if not moves:
            self._rooms[sid].append(room)
        move = Move(self._time(), is_in=is_in)
        moves.append(move)
        self._under_way[sid, room] = move
        return move

    def end(self, sid: str, room: str, move: Move, *, is_done: bool) -> None:
        """It has, or nobody knows whether it has."""
        if is_done:
            move.done = self._time()
        self._under_way.pop((sid, room), None)

    def inside(self, room: str) -> list[str]:
        """Who may be in a room."""
        return [sid for (sid, name), moves in self._moves.items() if name == room and moves[-1].is_in]

    def close(self, room: str) -> Move:
        """A room begins to be closed: who comes into it meanwhile may have to leave it."""
        move = Move(self._time(), is_in=False)
        self._closings[room].append(move)
        return move

    def closed(self, move: Move) -> None:
        """The call has returned: on one node it is done."""
        if not self._is_shared:
            move.done = self._time()

    # -- events ----------------------------------------------------------------------------------------------

    def emit(self, number: int, rooms: list[str], skip: list[str]) -> Emitted:
        """An event is emitted."""
        event = self.events[number] = Emitted(number, rooms, skip, self._time())
        return event

    def kept(self, event: Emitted) -> None:
        """Its call has returned."""
        event.kept = self._time()

    def is_due(self, event: Emitted, sid: str) -> bool:
        """Whether a client has to get an event, if kept: it was in a room, and has not left it since."""
        if event.kept == math.inf or sid in event.skip:
            return False
        return any(self._was_in(event, sid, room) for room in event.rooms)

    def _was_in(self, event: Emitted, sid: str, room: str) -> bool:
        moves = self._moves.get((sid, room), [])
        since = [index for index, move in enumerate(moves) if move.is_in and move.done < event.begun]
        if not since or not all(move.is_in for move in moves[since[-1] :]):
            return False
        entered = moves[since[-1]].begun
        return all(closing.done < entered for closing in self._closings.get(room, []))

    def is_wrong(self, event: Emitted, sid: str) -> bool:
        """Whether a client must not get an event."""
        if sid in event.skip:
            return True
        return all(self._was_out(event, self._moves.get((sid, room), [])) for room in event.rooms)

    def _was_out(self, event: Emitted, moves: list[Move]) -> bool:
        until = math.inf if self._is_shared else event.kept
        entered = [index for index, move in enumerate(moves) if move.is_in and move.begun < until]
        if not entered:
            return True
        after = moves[entered[-1] :]
        return any(not move.is_in and move.done < event.begun for move in after)
