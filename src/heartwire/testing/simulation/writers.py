"""Who writes durable streams in a simulation of several nodes, and whether they become what they should.

A producer numbers its appends, and sends each again, by way of any node, until it is answered. A run belongs
to one node: it holds a lease, and dies with it. Both call `Streams`, as the dialect and `hub.stream` do.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, Final

from heartwire.errors import HeartwireError, Refused
from heartwire.streams.record import Claim, Producer, ProducerRefused, StreamOptions, end_message
from heartwire.streams.streams import Streams
from heartwire.testing.simulation.engine import ALL, Store
from heartwire.testing.simulation.nodes import SimulatedNode
from heartwire.testing.simulation.server import Whole
from heartwire.types import EARLIEST, Channel, Message, Publication

__all__ = ["Writers"]

_LEASE_S: Final = 5
_PATIENCE_S: Final = 4
_TEXT: Final = StreamOptions(content_type="text/plain")
_RUN: Final = Channel("answer:run")

Work = Callable[[Streams], Awaitable[Any]]


class Writers:
    """See the module."""

    def __init__(self, world: Whole) -> None:
        self._world = world
        self._chance = Random(f"{world.seed} writers")
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: dict[Channel, list[tuple[Store, bytes]]] = {}  # what was acknowledged, and where it was

    def begin(self) -> None:
        """Write some streams; the hubs have to have a durable namespace ``answer``."""
        for number in range(self._chance.randint(1, 2)):
            channel = Channel(f"answer:{number}")
            self._do(channel, self._produce(channel, self._chance.randint(1, 30)))
        self._do(_RUN, self._run(self._chance.randint(1, 30)))

    @property
    def are_done(self) -> bool:
        """Whether nothing is to be written any more."""
        return not self._tasks

    def _do(self, channel: Channel, work: Any) -> None:
        self._told[channel] = []

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()):
                self._fail(channel, f"its writer fails: {error!r}")

        task = self._world.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(ended)

    @property
    def _store(self) -> Store:
        assert self._world.server.store is not None
        return self._world.server.store.memory

    # -- writing ---------------------------------------------------------------------------------------------

    async def _produce(self, channel: Channel, count: int) -> None:
        """Append words and close, each step with its number, until all of it is there."""
        number = 0
        while number <= count:
            claim = Claim(producer=Producer("p", 0, number), close="done" if number == count else "")
            body = b"%d" % number
            messages = [Message(body)] if number < count else []
            try:
                answer = await self._by_any(lambda streams: streams.append(channel, messages, claim))  # noqa: B023
            except ProducerRefused as refused:  # a failover has lost what comes before it
                number = refused.expected
            except Refused as refused:
                if refused.code.name != "stream_not_found":
                    raise
                await self._by_any(lambda streams: streams.create(channel, _TEXT))
                number = 0
            else:
                self._acknowledged(channel, body if messages else b"", answer)
                number += 1
                await self._pause()

    async def _run(self, count: int) -> None:
        """Write words from one node, each once; and see that the stream ends if that node does not end it."""
        node, streams = await self._any_node()
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await streams.create(_RUN, _TEXT, owner="run", lease_s=_LEASE_S)
            for number in range(count):
                if node.state != "up" or node.hub.node.streams is not streams:
                    break  # it died with its node
                body = b"%d" % number
                claim = Claim(owner="run", close="done" if number + 1 == count else "")
                async with asyncio.timeout(_PATIENCE_S):
                    answer = await streams.append(_RUN, [Message(body)], claim)
                self._acknowledged(_RUN, body, answer)
                await self._pause()
        except (HeartwireError, TimeoutError) as error:
            self._world.note(f"server{node.name}", f"its run ends: {error}")
        await self._watch()

    async def _watch(self) -> None:
        """Look at the run's stream until it has ended, as its readers do."""
        while True:
            try:
                seen = await self._by_any(lambda streams: streams.look(_RUN))
            except Refused as refused:
                if refused.code.name != "stream_not_found":
                    raise
                return
            if seen.record.closed:
                return
            await asyncio.sleep(1)

    async def _pause(self) -> None:
        await asyncio.sleep(self._chance.choice((0, 0.1, 1, 4)) * self._chance.random())

    async def _any_node(self) -> tuple[SimulatedNode, Streams]:
        while True:
            able = [node for node in self._world.server.nodes if node.state == "up"]
            if able:
                node = self._chance.choice(able)
                return node, node.hub.node.streams
            await asyncio.sleep(0.5)

    async def _by_any(self, work: Work) -> Any:
        """Ask nodes, one after the other, until one answers. What was given up may still be done."""
        while True:
            _, streams = await self._any_node()
            try:
                async with asyncio.timeout(_PATIENCE_S * self._chance.random()):
                    return await work(streams)
            except Refused as refused:
                if refused.code.name != "too_many_requests":
                    raise
            except (HeartwireError, TimeoutError):
                pass
            await asyncio.sleep(self._chance.random())

    # -- what has become of it -------------------------------------------------------------------------------

    def _acknowledged(self, channel: Channel, body: bytes, answer: Any) -> None:
        appended, position = answer
        self._told[channel].append((self._store, body or end_message("done").data))
        if body and appended.is_new and self._world.server.truth.at(channel, position) != body:
            self._fail(channel, f"{body!r} was acknowledged at {position}, and is not there")

    def at_the_end(self) -> None:
        """Check that every stream has all that was acknowledged, in order, once, and then its end."""
        if not self.are_done:
            self._fail("streams", "are not written to their ends")
        for channel, told in self._told.items():
            read = self._store.read(channel, EARLIEST, ALL, limit=10_000, max_bytes=10**6)
            self._look_at(channel, told, read.publications)

    def _look_at(
        self, channel: Channel, told: list[tuple[Store, bytes]], kept: Sequence[Publication]
    ) -> None:
        numbers = [int(one.data) for one in kept if not one.is_end]
        if numbers != sorted(set(numbers)) or [one for one in kept[:-1] if one.is_end]:
            self._fail(channel, f"has {[one.data for one in kept]}")
        bodies = {one.data for one in kept}
        for store, body in told:
            is_lost = store is not self._store or (channel, body) in self._world.server.truth.lost
            if body not in bodies and not is_lost:
                self._fail(channel, f"{body!r} was acknowledged, and is not there")
        if kept and kept[-1].data == end_message("interrupted").data:
            before = kept[-2].time_ms if len(kept) > 1 else 0
            if kept[-1].time_ms - before <= _LEASE_S * 1000:
                self._fail(channel, "was interrupted, though its run was alive")

    def _fail(self, who: str, what: str) -> None:
        self._world.checks.fail(who, what)
