"""Bugs of the Socket.IO dialect, planted on purpose, to see that simulations find them.

python -m tests.property.planted_socketio_bugs [NAME ...]      look for the seeds anew, and print them
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest

from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.dialects.socketio.packet import encode
from heartwire.dialects.socketio.session import ClientSession, NamespaceSocket
from heartwire.server.socketio import joining
from heartwire.server.socketio.members import Member
from heartwire.server.socketio.recovery import Recovery, Saved
from heartwire.server.socketio.router import Router
from heartwire.server.socketio.server import SocketServer
from heartwire.testing import Broken
from heartwire.testing.simulation.socketio_events import run_socket_seed
from heartwire.types import Position

__all__ = ["PLANTED", "first_seed_that_finds", "is_found"]

Plant = Callable[[pytest.MonkeyPatch], None]

PLANTED: Final[dict[str, Plant]] = {}


def planted(plant: Plant) -> Plant:
    PLANTED[plant.__name__.replace("_", "-")] = plant
    return plant


# -- recovery ------------------------------------------------------------------------------------------------


@planted
def offset_of_an_earlier_session_counts(patch: pytest.MonkeyPatch) -> None:
    def position(self: Saved, offset: object) -> Position:
        return Position.parse(offset if isinstance(offset, str) else self.start)

    patch.setattr(Saved, "position", position)


@planted
def recovery_goes_on_where_the_server_was(patch: pytest.MonkeyPatch) -> None:
    """From the position at the time, as if what was sent had arrived."""
    original = joining._take

    async def take(server: Any, router: Router, *arguments: Any) -> Any:
        taken = await original(server, router, *arguments)
        return taken and (*taken[:2], router.position)

    patch.setattr(joining, "_take", take)


@planted
def recovery_always_goes_on_at_connect(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Saved, "position", lambda self, offset: Position.parse(self.start))


@planted
def taken_over_connection_goes_on(patch: pytest.MonkeyPatch) -> None:
    async def evict(*arguments: Any) -> None:
        return

    patch.setattr(joining, "_evict", evict)


@planted
def gap_is_not_told(patch: pytest.MonkeyPatch) -> None:
    async def continues(self: Router, position: Position) -> bool:
        return True

    patch.setattr(Router, "continues", continues)


@planted
def room_entered_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    async def save(self: SocketServer, member: Member) -> None:
        return

    patch.setattr(SocketServer, "save", save)


@planted
def record_is_not_kept_before_the_answer(patch: pytest.MonkeyPatch) -> None:
    async def saved(recovery: Recovery, member: Member) -> bool:
        return True

    patch.setattr(joining, "_saved", saved)


@planted
def missed_events_come_before_the_answer(patch: pytest.MonkeyPatch) -> None:
    def begin(self: Router, member: Member, accepted: Callable[[], None]) -> Any:
        async def later() -> None:
            await self._catch_up(member)
            accepted()

        return later()

    patch.setattr(Router, "begin", begin)


@planted
def offset_is_one_too_far(patch: pytest.MonkeyPatch) -> None:
    original = Saved.position

    def position(self: Saved, offset: object) -> Position:
        found = original(self, offset)
        return found if str(found) == self.start else found._replace(offset=found.offset + 1)

    patch.setattr(Saved, "position", position)


# -- the router ----------------------------------------------------------------------------------------------


@planted
def catch_up_goes_live_early(patch: pytest.MonkeyPatch) -> None:
    original = Router._is_at_head

    def is_at_head(self: Router, member: Member) -> bool:
        if original(self, member):
            return True
        here, there = member.position, self.position
        return here is not None and there is not None and there.offset - here.offset == 1

    patch.setattr(Router, "_is_at_head", is_at_head)


@planted
def rooms_are_not_looked_at_when_catching_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Member, "wants", lambda self, one: one.entry.kind == 0)


@planted
def turn_is_written_room_by_room(patch: pytest.MonkeyPatch) -> None:
    original = Router._deliver

    def deliver(self: Router, routed: Sequence[Any], *arguments: Any) -> None:
        original(self, sorted(routed, key=lambda one: str(one.entry.rooms)), *arguments)

    patch.setattr(Router, "_deliver", deliver)


@planted
def skipped_clients_are_not_skipped(patch: pytest.MonkeyPatch) -> None:
    original = SocketServer.emit

    async def emit(
        self: SocketServer, namespace: str, arguments: Any, rooms: Any, skip: Any, **how: Any
    ) -> None:
        await original(self, namespace, arguments, rooms, [], **how)

    patch.setattr(SocketServer, "emit", emit)


@planted
def emit_returns_before_it_is_kept(patch: pytest.MonkeyPatch) -> None:
    original = SocketServer.publish

    async def publish(self: SocketServer, *arguments: Any, **how: Any) -> None:
        self.run(original(self, *arguments, **how))

    patch.setattr(SocketServer, "publish", publish)


# -- clients and sessions ------------------------------------------------------------------------------------


@planted
def end_of_a_client_is_not_told(patch: pytest.MonkeyPatch) -> None:
    async def leave(self: SocketServer, member: Member, reason: str) -> None:
        self.routers[member.socket.namespace].forget(member)

    patch.setattr(SocketServer, "leave", leave)


@planted
def acknowledgement_is_sent_twice(patch: pytest.MonkeyPatch) -> None:
    original = Router.send

    def send(self: Router, member: Member, parcel: Any) -> None:
        original(self, member, parcel)
        original(self, member, parcel)

    patch.setattr(Router, "send", send)


@planted
def client_that_was_left_is_accepted_again(patch: pytest.MonkeyPatch) -> None:
    def left(self: SocketServer, socket: NamespaceSocket, reason: str) -> None:
        self.run(self.leave(socket.context, reason))

    patch.setattr(SocketServer, "left", left)


@planted
def what_waits_at_an_upgrade_is_lost(patch: pytest.MonkeyPatch) -> None:
    original = EngineSession._upgrade

    def upgrade(self: EngineSession, socket: Any) -> None:
        self._waiting.take()
        original(self, socket)

    patch.setattr(EngineSession, "_upgrade", upgrade)


@planted
def answer_to_connect_is_sent_twice(patch: pytest.MonkeyPatch) -> None:
    original = ClientSession.accept

    def accept(self: ClientSession, socket: NamespaceSocket, answer: dict[str, Any]) -> None:
        original(self, socket, answer)
        self.send(encode(0, socket.namespace, None, {**answer, "sid": f"{socket.sid}x"}, self.port.json))

    patch.setattr(ClientSession, "accept", accept)


# -- whether they are found ----------------------------------------------------------------------------------


def is_found(name: str, seed: int) -> str:
    """The problem by which a simulation finds it; "" where it does not."""
    with pytest.MonkeyPatch.context() as patch:
        PLANTED[name](patch)
        try:
            run_socket_seed(seed)
        except Broken as broken:
            return broken.problems[0]
        except Exception as error:
            return repr(error)
    return ""


def first_seed_that_finds(name: str, *, among: int) -> int | None:
    """Look for one."""
    return next((seed for seed in range(among) if is_found(name, seed)), None)


if __name__ == "__main__":
    for name in sys.argv[1:] or PLANTED:
        found = first_seed_that_finds(name, among=300)
        how = is_found(name, found)[:110] if found is not None else "NOT FOUND"
        sys.stdout.write(f"{name} {found} {how}\n")
        sys.stdout.flush()
