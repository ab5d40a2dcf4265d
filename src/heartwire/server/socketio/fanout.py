"""Events of one turn to the clients that they are for: made once for each kind of client, and one write each.

In: entries and their clients, from `Router`. Out: payloads, to the links of WebSockets; parcels, to sessions
that poll.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from heartwire.core.switchboard import Switchboard
from heartwire.server.socketio.members import Member, Routed

__all__ = ["gathered", "write"]

Targets = Callable[[Routed], Iterable[Member]]


def gathered(batch: Sequence[Routed], targets: Targets) -> list[tuple[Sequence[Routed], Iterable[Member]]]:
    """The clients of some events, put together by which of the events they get, in order."""
    first = batch[0].entry
    rooms, skip = first.rooms, first.skip
    if all(one.entry.rooms == rooms and one.entry.skip == skip for one in batch):
        return [(batch, targets(batch[0]))]
    wanted: dict[Member, list[Routed]] = {}
    for one in batch:
        for member in targets(one):
            wanted.setdefault(member, []).append(one)
    groups: dict[tuple[int, ...], tuple[Sequence[Routed], list[Member]]] = {}
    for member, mine in wanted.items():
        groups.setdefault(tuple(map(id, mine)), (mine, []))[1].append(member)
    return list(groups.values())


def write(
    board: Switchboard, batch: Sequence[Routed], members: Iterable[Member], full: Callable[[Member], None]
) -> list[Member]:
    """Write events to live clients. ``full`` is called for each whose connection is full, and that is to be
    read for. Returns those that are not live."""
    payloads: dict[Any, Any] = {}
    behind = []
    for member in members:
        engine = member.engine
        if not member.is_live:
            behind.append(member)
        elif engine.paused:
            full(member)
            if not member.is_live:
                behind.append(member)
        if not member.is_live:
            continue
        socket: Any = engine.socket
        if socket is None:
            for one in batch:
                engine.send(member.parcel(one))
            continue
        key = socket.messages, member.has_offsets
        payload = payloads.get(key)
        if payload is None:
            payload = payloads[key] = socket.payload([member.parcel(one) for one in batch])
        board.write(socket.sink, payload)
    return behind
