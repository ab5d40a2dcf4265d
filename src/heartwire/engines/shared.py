"""What engines on a store of several nodes have in common: `SharedBase`.

In: the calls of `SharedEngine`; what a store's connections bring, by the ``_feed_…`` and ``_tell_…`` methods;
the time. Out: calls to the store, which a subclass supplies (the abstract methods), and what the node hears.
The decisions are in `heartwire.engines.watches`, `calls` and `changes`; here are the tasks that act on them.
"""

import asyncio
import contextlib
import logging
import random
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Literal

from heartwire.engines.calls import Calls, Room
from heartwire.engines.changes import Changes, Enter, Leave
from heartwire.engines.contract import Feed, FeedState, Told
from heartwire.engines.options import SharedOptions
from heartwire.engines.own_node import OwnNode
from heartwire.engines.watches import HEADS, FeedPulse, Watches, went_back
from heartwire.errors import EngineError
from heartwire.types import Channel, Member, Position, Publication

__all__ = ["BATCH", "SharedBase"]

log = logging.getLogger("heartwire")

BATCH: Final = 500
"""So many members are written in one call."""

TICK_S: Final = 0.1
OWN_ANSWER_S: Final = 0.05
"""So long the answer to an append waits until its publication was told here."""
REAP_S: Final = 5.0
REPAIRED_AT_ONCE: Final = 4
"""So many batches of channels, so that node and store work at the same time."""
LOOK_S: Final = 5.0
STOP_S: Final = 10.0
PART_S: Final = 5.0


class SharedBase(OwnNode, ABC):
    """The base of an engine on a store of several nodes. See the module.

    A subclass opens its connections in its ``start``, then calls `_begin`; in ``stop`` it calls `_end` first.
    It keeps its calls in `Calls` (each with ``self._room``) and names them in `_all_calls`.

    Args:
        name: the store, as messages call it.
        clock: seconds, monotonic; for waiting only. Ages of what is kept go by the store's clock.
    """

    is_shared: Literal[True] = True
    confirms_by_name: ClassVar[bool] = True
    """See `Watches`."""

    def __init__(
        self,
        name: str,
        options: SharedOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self.name = name
        self._options = options
        self._clock, self._chance = clock, chance
        self._feed = Feed()
        self._room = Room()
        self._watches = Watches(by_name=self.confirms_by_name)
        self._changes = Changes()
        self._pulse = FeedPulse(clock())
        self._has_commands, self._has_feed, self._is_repaired = True, True, True
        self._state: FeedState = "up"
        self._away_since = 0.0
        self._answers: deque[tuple[float, Callable[[], None]]] = deque()
        self._answer_timer: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_flushing = False
        self._due: dict[str, float] = {}

    # -- what the store supplies -----------------------------------------------------------------------------

    @abstractmethod
    def heads(self, channels: Sequence[Channel]) -> "asyncio.Future[list[Position]]":
        """See `SharedEngine.heads`. It is applied in order with the reads made before."""

    @abstractmethod
    def _renew(self, channel: Channel, epoch: str) -> "asyncio.Future[Position]":
        """Give a stream another epoch, if it still has this one. Returns its position."""

    @abstractmethod
    def _subscribe(self, channel: Channel) -> None:
        """The feed is to bring a channel; `Watches.confirm` says when it does. While the feed is away,
        nothing: the subclass names all ``self._watches`` when it is there again."""

    @abstractmethod
    def _unsubscribe(self, channel: Channel) -> None:
        """The feed need not bring it any more."""

    @abstractmethod
    def _send_probe(self) -> None:
        """Send to oneself by the way of publications. Whatever comes by the feed calls ``_pulse.heard``."""

    @abstractmethod
    def _close_feed(self, why: str) -> None:
        """End the feed's connection; the subclass connects again by itself."""

    @abstractmethod
    async def _beat(self, lease_s: float) -> bool:
        """Say that this node lives. Returns whether its lease had held until now. Where it had not, members
        whose leaves others have told (of ``_changes.announced``) are announced again; the members themselves
        are written again by `SharedBase`."""

    @abstractmethod
    async def _part(self) -> None:
        """Say that this node goes, with the members that are left."""

    @abstractmethod
    def _look(self) -> None:
        """See whether the store is what it was when it was connected. Every 5 s."""

    @abstractmethod
    async def _reap(self) -> None:
        """Remove members of dead nodes, each once over all nodes, and have their leaves told."""

    @abstractmethod
    def _store_changes(
        self, changes: dict[tuple[Channel, str], Enter | Leave], dismissed: list[tuple[str, str]]
    ) -> "asyncio.Future[Any]":
        """Write changes of members; forget users' connections. Idempotent, and in order with other calls.
        The future raises `EngineError`."""

    @abstractmethod
    async def _readmit(self, admitted: list[tuple[str, str]]) -> None:
        """Count users' connections of this node again, whatever their limit."""

    @abstractmethod
    def _all_calls(self) -> Sequence[tuple[Calls, bool, Callable[[str], None]]]:
        """The calls of each connection, whether it takes them now, and what ends it (with a reason)."""

    @property
    def is_reachable(self) -> bool:
        return self._has_commands

    # -- life ------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """The store is open: say so to the other nodes, and keep all that has to be kept."""
        self._loop = asyncio.get_running_loop()
        await self._beat(self._options.node_lease_s)
        now = self._clock()
        self._pulse.heard(now)
        self._due = {
            "beat": now + self._beat_s(),
            "reap": now + REAP_S * self._chance(),
            "look": now + LOOK_S,
        }
        self._keeper = self._loop.create_task(self._keep())
        if not self._is_repaired:
            self._repair()

    async def _end(self) -> None:
        """Wait for the calls under way, 10 s at most, and end the tasks. The store is still open."""
        if self._keeper is None:
            return
        self._flush_changes()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._room.emptied(), STOP_S)
        tasks = [self._keeper, *self._tasks.values()]
        self._keeper = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._give_answers(all_of_them=True)
        self._watches.lost()
        if self._has_commands:
            with contextlib.suppress(EngineError, TimeoutError):
                await asyncio.wait_for(self._part(), PART_S)
        for calls, _, _ in self._all_calls():
            calls.fail_all(f"{self.name}: the engine has stopped")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._tick(self._clock())
            except Exception:
                log.exception("%s: the engine's upkeep failed", self.name)

    def _tick(self, now: float) -> None:
        options = self._options
        for calls, is_there, abort in self._all_calls():
            if not is_there:
                calls.expire(now, options.patience_s, self._away_since, f"{self.name}: the store is away")
            if calls.late(now, options.answer_timeout_s):
                abort(f"no answer for {options.answer_timeout_s:g} s")
        if self._has_feed:
            pulse = self._pulse.due(now)
            if pulse == "close":
                self._close_feed("it brings nothing, though the store answers")
            elif self._watches.is_overdue(now, options.answer_timeout_s):
                self._close_feed(f"a channel was not confirmed for {options.answer_timeout_s:g} s")
            elif pulse == "probe" and self._has_commands:
                self._send_probe()
        if not self._has_commands:
            return
        if now >= self._due["beat"]:
            self._due["beat"] = now + self._beat_s()
            self._spawn("beat", self._live)
        if now >= self._due["reap"]:
            self._due["reap"] = now + REAP_S * (0.9 + 0.2 * self._chance())
            self._spawn("reap", self._reap)
        if now >= self._due["look"]:
            self._due["look"] = now + LOOK_S
            self._look()
        if self._state == "up":
            channels = self._watches.quiet(TICK_S / options.check_s)
            if channels:
                self._spawn("heads", partial(self._compare_all, channels))
        if self._changes:
            self._flush_changes()

    def _beat_s(self) -> float:
        return self._options.node_lease_s / 4 * (0.9 + 0.2 * self._chance())

    def _spawn(self, name: str, work: "Callable[[], Coroutine[Any, Any, None]]") -> None:
        """Run a task, unless the last of this name still runs. What the store refuses is logged."""
        if name in self._tasks:
            return

        async def run() -> None:
            try:
                await work()
            except EngineError as error:
                log.warning("%s: %s: %s", self.name, name, error)
            except Exception:
                log.exception("%s: %s failed", self.name, name)
            finally:
                self._tasks.pop(name, None)

        self._tasks[name] = self._loop.create_task(run())

    async def _live(self) -> None:
        """Keep the node's lease; one that was missed has made the others give this node up."""
        if await self._beat(self._options.node_lease_s):
            return
        log.warning("%s: this node was taken for dead; its members are written again", self.name)
        self._changes.all_again()
        self._flush_changes()
        admitted = list(self._changes.admitted)
        for at in range(0, len(admitted), BATCH):
            await self._readmit(admitted[at : at + BATCH])

    # -- what the store's connections say --------------------------------------------------------------------

    def _commands_lost(self, why: str) -> None:
        """No connection takes calls now."""
        if self._has_commands:
            self._has_commands, self._away_since = False, self._clock()
            self._update_state(why)

    def _commands_up(self) -> None:
        """Calls are taken. The members' lease is looked at before anything else is due."""
        if not self._has_commands:
            self._has_commands = True
            self._due["beat"] = 0.0
            if self._has_feed:
                self._repair()

    def _feed_lost(self, why: str, is_of: Callable[[Channel], bool] = lambda channel: True) -> None:
        """The feed is away, of some channels or all: what it would tell is missed, and looked for when it is
        back."""
        self._watches.lost(is_of)
        if self._has_feed:
            self._has_feed = self._is_repaired = False
            self._update_state(why)

    def _feed_up(self) -> None:
        """The feed is connected, and the channels of ``_watches`` are named to the store."""
        self._has_feed = True
        self._watches.opened()
        self._pulse.heard(self._clock())
        if self._keeper is not None:
            self._repair()
        else:
            self._is_repaired = not self._watches

    def _repair(self) -> None:
        self._is_repaired = False
        self._update_state(f"{self.name}: asking where the channels are")
        task = self._tasks.pop("repair", None)
        if task is not None:
            task.cancel()
        if self._has_commands:
            self._tasks["repair"] = self._loop.create_task(self._repair_all())

    def _update_state(self, why: str) -> None:
        state: FeedState = "up" if self._is_repaired else "behind"
        if not (self._has_commands and self._has_feed):
            state = "down"
        if state != self._state:
            self._state = state
            if state != "up":
                self._give_answers(all_of_them=True)
            self._feed.state(state, "" if state == "up" else why)

    # -- repair ----------------------------------------------------------------------------------------------

    async def _repair_all(self) -> None:
        """Compare all watched channels with their heads; the state is "up" after it.

        Those that differ read as fast as the node lets them: it bounds the reads under way.
        """
        channels = self._watches.channels()
        parts = (channels[at : at + HEADS] for at in range(0, len(channels), HEADS))
        await asyncio.gather(*(self._repair_parts(parts) for _ in range(REPAIRED_AT_ONCE)))
        self._tasks.pop("repair", None)
        self._is_repaired = True
        self._update_state("")

    async def _repair_parts(self, parts: Iterator[list[Channel]]) -> None:
        for part in parts:
            while True:
                try:
                    await self._compare(part)
                    break
                except EngineError as error:
                    log.warning("%s: the heads of channels are not known yet: %s", self.name, error)
                    await asyncio.sleep(TICK_S)

    async def _compare_all(self, channels: list[Channel]) -> None:
        for at in range(0, len(channels), HEADS):
            await self._compare(channels[at : at + HEADS])

    async def _confirmed(self, channel: Channel) -> None:
        watch = self._watches.get(channel)
        if watch is not None and not watch.is_confirmed:
            come = self._loop.create_future()
            self._watches.when_confirmed(channel, lambda: None if come.done() else come.set_result(None))
            await come

    async def _compare(self, channels: list[Channel]) -> None:
        """Ask for heads, and tell the node.

        A head that is before what was told, in one epoch, is a loss that the store does not know of: the
        stream gets another epoch.
        """
        for channel in channels:  # asked before, a publication could fall between the head and the feed
            await self._confirmed(channel)
        told = self._watches.positions(channels)
        heads = await self.heads(channels)
        for channel, was, head in zip(channels, told, heads, strict=True):
            if went_back(was, head):
                log.error(
                    "%s: %r went back from %d to %d: new epoch", self.name, channel, was.offset, head.offset
                )
                head = await self._renew(channel, head.epoch)
            self._feed.behind(channel, head)

    # -- what the feed brings --------------------------------------------------------------------------------

    def _tell(self, publication: Publication) -> None:
        """A publication has come by the feed."""
        if self._watches.takes(publication):
            self._feed.publication(publication)
            self._watches.told(publication.channel)

    def _tell_removed(self, channel: Channel, position: Position) -> None:
        if channel in self._watches:
            self._feed.removed(channel, position)

    def _tell_member(self, channel: Channel, told: Told, member: Member) -> None:
        if channel in self._watches:
            self._feed.member(channel, told, member)

    def _answer_appended(self, channel: Channel, position: Position, give: Callable[[], None]) -> None:
        """Give the answer to an append once its publication was told here, or after 50 ms."""
        if self._state != "up" or not self._watches.when_told(channel, position, give):
            give()
            return
        self._answers.append((self._loop.time() + OWN_ANSWER_S, give))
        if self._answer_timer is None:
            self._answer_timer = self._loop.call_later(OWN_ANSWER_S, self._give_answers)

    def _give_answers(self, *, all_of_them: bool = False) -> None:
        """Give those that have waited long enough; ``give`` without effect where it was given before."""
        if not self._answers:
            return
        now = self._loop.time()
        while self._answers and (all_of_them or self._answers[0][0] <= now + 0.001):
            self._answers.popleft()[1]()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None
        if self._answers:
            self._answer_timer = self._loop.call_later(self._answers[0][0] - now, self._give_answers)

    # -- calls that are the same for all stores --------------------------------------------------------------

    def watch(self, channel: Channel) -> None:
        if self._watches.add(channel):
            self._subscribe(channel)

    def unwatch(self, channel: Channel) -> None:
        if self._watches.remove(channel):
            self._unsubscribe(channel)

    def lease(self, channel: Channel, member: Member, ttl_s: float) -> None:
        self._changes.lease(channel, member, ttl_s)
        self._flush_soon()

    def release(self, channel: Channel, client: str) -> None:
        self._changes.release(channel, client)
        self._flush_soon()

    def dismiss(self, user: str, client: str) -> None:
        self._changes.dismiss(user, client)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._is_flushing and self._keeper is not None:
            self._is_flushing = True
            self._loop.call_soon(self._flush_changes)

    def _flush_changes(self) -> None:
        """Write what has changed since the last turn. To be called before the store is asked for members."""
        self._is_flushing = False
        while self._changes and self._has_commands and self._keeper is not None:
            changes, dismissed = self._changes.take(BATCH)
            stored = self._store_changes(changes, dismissed)
            stored.add_done_callback(partial(self._stored, changes, dismissed))

    def _stored(
        self,
        changes: dict[tuple[Channel, str], Enter | Leave],
        dismissed: list[tuple[str, str]],
        done: "asyncio.Future[Any]",
    ) -> None:
        if done.cancelled() or done.exception() is not None:
            self._changes.give_back(changes, dismissed)
