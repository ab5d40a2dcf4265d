"""Bugs that are planted on purpose, to see that simulations find them. docs/testing-simulation.md says which
seed finds each.

python -m tests.property.planted_bugs [NAME ...]      look for the seeds anew, and print the table
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from heartwire import codes
from heartwire.client import machine
from heartwire.client.channel_state import ChannelState
from heartwire.client.connection import Connection
from heartwire.client.lifecycle import Lifecycle
from heartwire.client.pending_publishes import Item, PendingPublishes
from heartwire.client.probing import Probing
from heartwire.client.retry import Bucket
from heartwire.client.traffic import Traffic
from heartwire.core.liveness import Liveness, Watched
from heartwire.core.switchboard import Switchboard
from heartwire.core.topic import Topic
from heartwire.dialects.centrifugal import ClientSubscription, Session, subscribing
from heartwire.dialects.centrifugal import publishing as server_publishing
from heartwire.engines import memory
from heartwire.engines.memory import MemoryEngine
from heartwire.hub.publishing import Publishing
from heartwire.server.centrifugal.connection import CentrifugalConnection as ServerConnection
from heartwire.server.centrifugal.connection import HubSession
from heartwire.server.centrifugal.port import HubPort
from heartwire.testing import Broken, run_seed
from heartwire.testing.simulation import engine as simulated_engine
from heartwire.testing.simulation.engine import SimulatedEngine
from heartwire.transports.asgi_link import AsgiLink
from heartwire.types import NOW, Position

__all__ = ["PLANTED", "first_seed_that_finds", "is_found"]

Plant = Callable[[pytest.MonkeyPatch], None]

PLANTED: Final[dict[str, Plant]] = {}


def planted(plant: Plant) -> Plant:
    PLANTED[plant.__name__.replace("_", "-")] = plant
    return plant


# -- the client: what is followed ----------------------------------------------------------------------------


@planted
def doubles_are_told(patch: pytest.MonkeyPatch) -> None:
    def news(self: ChannelState, pubs: Any) -> Iterator[Any]:
        for pub in pubs:
            if self.position is None or pub.offset > self.position.offset + 1:
                self.is_live = False
                return
            self.position = Position(self.position.epoch, max(pub.offset, self.position.offset))
            yield pub

    patch.setattr(ChannelState, "news", news)


@planted
def server_leaves_a_hole_and_nobody_sees_it(patch: pytest.MonkeyPatch) -> None:
    def news(self: ChannelState, pubs: Any) -> Iterator[Any]:
        for pub in pubs:
            if self.position is None or pub.offset > self.position.offset:
                self.position = Position(self.position.epoch if self.position else "", pub.offset)
                yield pub

    patch.setattr(ChannelState, "news", news)
    patch.setattr(HubPort, "follow", _follow_from_now)


def _moved(patch: pytest.MonkeyPatch, by: int) -> None:
    original = ChannelState.subscribe_body

    def subscribe_body(self: ChannelState) -> dict[str, Any]:
        body = original(self)
        return body | {"offset": max(0, body["offset"] + by)} if body.get("offset") else body

    patch.setattr(ChannelState, "subscribe_body", subscribe_body)


@planted
def resumes_one_too_far(patch: pytest.MonkeyPatch) -> None:
    _moved(patch, 1)


@planted
def resumes_one_too_early_and_tells_it(patch: pytest.MonkeyPatch) -> None:
    _moved(patch, -1)
    doubles_are_told(patch)


@planted
def gap_is_not_told(patch: pytest.MonkeyPatch) -> None:
    original = ChannelState.subscribed

    def subscribed(self: ChannelState, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)

    patch.setattr(ChannelState, "subscribed", subscribed)


@planted
def older_answer_moves_back(patch: pytest.MonkeyPatch) -> None:
    original = ChannelState.subscribed

    def subscribed(self: ChannelState, *arguments: Any, asked: Any, **options: Any) -> Any:
        return original(self, *arguments, asked=self.position, **options)

    patch.setattr(ChannelState, "subscribed", subscribed)


@planted
def better_transport_begins_with_now(patch: pytest.MonkeyPatch) -> None:
    original = Traffic.subscribe_commands

    def subscribe_commands(self: Traffic, connection: Connection, *, anew: bool) -> list[str]:
        if self.connection in (None, connection):
            return original(self, connection, anew=anew)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ChannelState, "subscribe_body", lambda state: {"channel": state.channel})
            return original(self, connection, anew=anew)

    patch.setattr(Traffic, "subscribe_commands", subscribe_commands)


@planted
def answer_to_an_older_question_counts(patch: pytest.MonkeyPatch) -> None:
    def subscribed(self: Traffic, connection: Connection, id: int, channel: str, reply: Any) -> None:
        asked, state = connection.asked.pop(channel, None), self.channels.get(channel)
        if state is not None and reply.subscribe is not None:
            self._placed(state, reply.subscribe, asked.position if asked is not None else state.position)

    patch.setattr(Traffic, "_subscribed", subscribed)


@planted
def pause_does_not_stop_the_server(patch: pytest.MonkeyPatch) -> None:
    def pause(self: Traffic, channel: str) -> None:
        state = self.channels.get(channel)
        if state is not None:
            state.is_paused = True
            state.lost()

    patch.setattr(Traffic, "pause", pause)


# -- the client: connections ---------------------------------------------------------------------------------


@planted
def old_connections_are_heard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lifecycle, "known", lambda self, generation: self.current or self.attempt)


@planted
def new_connection_says_what_the_old_one_had_left(patch: pytest.MonkeyPatch) -> None:
    left: dict[Traffic, list[str]] = {}
    lost, online = Traffic.lost, Traffic.online

    def forget(self: Traffic) -> None:
        if self.connection is not None:
            left[self] = [command for command in self.connection.queue if '"publish"' in command]
        lost(self)

    def begin(self: Traffic, connection: Connection, server_side: Any) -> None:
        connection.queue += left.pop(self, [])
        online(self, connection, server_side)

    patch.setattr(Traffic, "lost", forget)
    patch.setattr(Traffic, "online", begin)


@planted
def bucket_is_not_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Bucket, "take", lambda self, now: 0.0)


@planted
def silence_never_ends(patch: pytest.MonkeyPatch) -> None:
    others = tuple((name, due) for name, due in machine._DEADLINES if name != "silence")
    patch.setattr(machine, "_DEADLINES", (*others, ("silence", lambda self: None)))


@planted
def hints_are_not_heeded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Probing, "probe", lambda self, connection: None)


@planted
def stale_means_never(patch: pytest.MonkeyPatch) -> None:
    patch.delitem(codes._VERDICTS, 3502)


# -- the client: what is published ---------------------------------------------------------------------------


@planted
def what_was_on_its_way_is_not_sent_again(patch: pytest.MonkeyPatch) -> None:
    def lost(self: PendingPublishes) -> None:
        self._in_flight = self.round = 0
        self._must_go_back = False
        self._deadlines.pop("resend", None)

    patch.setattr(PendingPublishes, "lost", lost)


@planted
def second_try_has_no_key(patch: pytest.MonkeyPatch) -> None:
    original = Item.body
    seen: dict[int, Item] = {}

    def body(self: Item, round: int) -> dict[str, Any]:
        fields = original(self, round)
        if id(self) in seen:
            del fields["idempotency_key"]
        seen[id(self)] = self
        return fields

    patch.setattr(Item, "body", body)


@planted
def round_does_not_wait_for_its_last_answer(patch: pytest.MonkeyPatch) -> None:
    def refused_for_now(self: PendingPublishes, key: str) -> None:
        item = self._items.get(key)
        if item is not None:
            self._landed(item)
            self.round += 1

    patch.setattr(PendingPublishes, "_refused_for_now", refused_for_now)


@planted
def request_does_not_wait_for_the_one_before(patch: pytest.MonkeyPatch) -> None:
    def pump(self: Traffic) -> None:
        if self.connection is not None:
            for item in self.publishes.to_send():
                self._ask("publish", item.body(self.publishes.round), item.key)
            self.flush()

    patch.setattr(Traffic, "pump", pump)


@planted
def outbox_has_no_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PendingPublishes, "_is_full", lambda self, size: False)


@planted
def what_was_given_up_counts_as_not_sent(patch: pytest.MonkeyPatch) -> None:
    original = PendingPublishes.expire

    def expire(self: PendingPublishes) -> None:
        for item in self._items.values():
            item.is_sent = item.is_sent and item.expires_at > self._context.now
        original(self)

    patch.setattr(PendingPublishes, "expire", expire)


# -- the server ----------------------------------------------------------------------------------------------


@planted
def server_acknowledges_before_the_store_has_it(patch: pytest.MonkeyPatch) -> None:
    original = Publishing.settle

    def settle(self: Publishing, author: Any, answer: Any, done: Any) -> Any:
        engine: Any = self._engine
        if not isinstance(answer, asyncio.Future):
            return original(self, author, answer, done)
        done(engine.planned.pop(answer))
        return original(self, author, answer, lambda outcome: None)

    append = SimulatedEngine.append

    def plan(self: Any, channel: Any, *arguments: Any, **options: Any) -> Any:
        stream = self._store._streams.get(channel)
        answer = append(self, channel, *arguments, **options)
        if stream is not None and isinstance(answer, asyncio.Future):
            vars(self).setdefault("planned", {})[answer] = Position(
                stream.epoch, stream.head + len(self._queue)
            )
        return answer

    patch.setattr(Publishing, "settle", settle)
    patch.setattr(SimulatedEngine, "append", plan)


def _follow_from_now(self: HubPort, session: HubSession, sub: ClientSubscription, start: Position) -> None:
    outlet = session.outlet
    follow = outlet._node.presence.follow
    follow(outlet.link, sub.channel, outlet._format, NOW, listener=sub)


@planted
def server_goes_on_from_the_head_and_not_from_its_answer(patch: pytest.MonkeyPatch) -> None:
    original = ServerConnection.follow

    def follow(self: ServerConnection, sub: ClientSubscription, start: Position) -> None:
        original(self, sub, NOW)  # type: ignore[arg-type]

    patch.setattr(ServerConnection, "follow", follow)


@planted
def server_knows_no_keys(patch: pytest.MonkeyPatch) -> None:
    original = MemoryEngine.append

    def append(self: MemoryEngine, *arguments: Any, key: str | None = None, **options: Any) -> Position:
        return original(self, *arguments, key=None, **options)

    patch.setattr(MemoryEngine, "append", append)


@planted
def server_knows_no_rounds(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(server_publishing, "keep_order", lambda *arguments: None)


@planted
def server_says_recovered_where_it_is_not(patch: pytest.MonkeyPatch) -> None:
    def plan(start: Any, head: Position, oldest: int) -> tuple[int, bool]:
        if isinstance(start, Position):
            return min(max(start.offset, oldest - 1), head.offset), True
        return (oldest - 1 if start is not NOW else head.offset), True

    patch.setattr(memory, "plan_read", plan)


@planted
def server_mistakes_one_epoch_for_another(patch: pytest.MonkeyPatch) -> None:
    original = simulated_engine.Store.__init__

    def begin(self: Any, life: str, clock: Any) -> None:
        original(self, "always the same", clock)

    patch.setattr(simulated_engine.Store, "__init__", begin)


@planted
def server_leaves_out_what_is_kept(patch: pytest.MonkeyPatch) -> None:
    original = subscribing._recover

    async def recover(session: Session, channel: Any, request: Any) -> Any:
        recovered, publications, *rest = await original(session, channel, request)
        return recovered, [] if not recovered else publications, *rest

    patch.setattr(subscribing, "_recover", recover)


@planted
def tail_has_one_too_few(patch: pytest.MonkeyPatch) -> None:
    def covers(self: Topic, position: Position) -> bool:
        return position.epoch == self.epoch and self._first() - 2 <= position.offset <= self.flushed

    patch.setattr(Topic, "covers", covers)


@planted
def slow_reader_loses_what_does_not_fit(patch: pytest.MonkeyPatch) -> None:
    original = AsgiLink.write

    def write(self: AsgiLink, payload: Any) -> None:
        if not self.paused:
            original(self, payload)

    patch.setattr(AsgiLink, "write", write)


@planted
def drained_reader_is_not_caught_up(patch: pytest.MonkeyPatch) -> None:
    original = Switchboard.resume

    def resume(self: Switchboard, subscription: Any) -> None:
        subscription.offset = max(subscription.offset, subscription.topic.flushed)
        original(self, subscription)

    patch.setattr(Switchboard, "resume", resume)


@planted
def server_gives_nobody_up(patch: pytest.MonkeyPatch) -> None:
    def visit(self: Liveness, link: Watched, *, late: bool) -> None:
        link.ping()
        self._put(link, self._pause_ticks)

    patch.setattr(Liveness, "_visit", visit)


# -- whether they are found ----------------------------------------------------------------------------------


def is_found(name: str, seed: int) -> str:
    """The problem by which a simulation finds it; "" where it does not."""
    with pytest.MonkeyPatch.context() as patch:
        PLANTED[name](patch)
        try:
            run_seed(seed)
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
        found = first_seed_that_finds(name, among=1000)
        how = is_found(name, found)[:110] if found is not None else "NOT FOUND"
        sys.stdout.write(f"| `{name}` | {found} | {how} |\n")
        sys.stdout.flush()
