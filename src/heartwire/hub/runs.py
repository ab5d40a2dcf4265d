"""Runs: what writes durable streams in this process, detached from the requests that began it.

In: producers and blocks of the application; questions of other nodes; the end of the node. Out: streams that
are begun once, by way of `StreamWriter`; leases that are renewed; runs that are handed over when the node
stops, or end as interrupted.
"""

import asyncio
import contextlib
import inspect
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple

import msgspec

from heartwire.channels import namespace_of
from heartwire.core.waiting import settled
from heartwire.engines.contract import SharedEngine
from heartwire.errors import HeartwireError, Refused
from heartwire.hub.bus import Bus
from heartwire.hub.clocks import Clocks
from heartwire.hub.history import PAGE_BYTES, History
from heartwire.hub.leases import Leases
from heartwire.hub.namespaces import Namespaces
from heartwire.hub.options import HubOptions, NamespaceOptions
from heartwire.hub.producers import Producer, values_of
from heartwire.hub.threads import off_loop
from heartwire.hub.user_limits import UserStreams
from heartwire.hub.writer import StreamWriter
from heartwire.streams.formats import Format, format_of
from heartwire.streams.record import Step, StreamOptions, StreamRecord
from heartwire.streams.streams import Streams
from heartwire.types import EARLIEST, Channel, Position, Start

__all__ = ["Runs", "Successor"]

log = logging.getLogger("heartwire")

Successor = Callable[[str, Any], Any]
"""Goes on with a run that another node gave up: given the stream's name and what is kept of it, a piece each,
it returns what a `Producer` does."""

_TICK_S: Final = 0.5
_LEAVE_S: Final = 2
"""How long a block that is ended has for its own end."""

_TAKE_S: Final = 2

_PAGE: Final = 1000

_TAKEN: Final = ("stream_conflict", "too_many_streams")
"""Refusals of a creation that may come because another one of the same name was first."""


class _Run(NamedTuple):
    """``format``: its name, by which another node can go on with it; "": it has none."""

    writer: StreamWriter
    format: str
    user: str
    left: asyncio.Future[None]


class Runs:
    """See the module. It belongs to one event loop.

    Attributes:
        successors: by namespace.
        leases: of streams that are followed here.

    Promises: a name has one run at a time, over all nodes. Once `finish` has returned, the stream of each is
    closed, is another node's, or was left to its lease because the store was away.
    """

    def __init__(
        self,
        streams: Streams,
        history: History,
        namespaces: Namespaces,
        options: HubOptions,
        clocks: Clocks,
        bus: Bus,
        shared: SharedEngine | None,
    ) -> None:
        self.successors: dict[str, Successor] = {}
        self._streams = streams
        self._history = history
        self._namespaces = namespaces
        self._options = options
        self._clocks = clocks
        self._bus = bus
        self._shared = shared
        self._users = UserStreams(options.max_streams_per_user, shared)
        self._runs: dict[Channel, _Run] = {}
        self._starting: dict[Channel, asyncio.Task[bool]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._until: float | None = None
        self._finishing: asyncio.Task[None] | None = None
        self.leases = Leases(
            streams,
            lease_s=options.stream_lease_s,
            now=lambda: clocks.monotonic(),
            is_here=self._runs.__contains__,
        )
        bus.handlers |= {"stream_stop": self._asked_to_stop, "stream_take": self._asked_to_take}

    # -- what the application asks for -----------------------------------------------------------------------

    async def open(
        self, channel: Channel, format: str | Format, *, content_type: str, ttl_s: float | None, user: str
    ) -> StreamWriter:
        """Begin a stream, and return its writer, to be entered at once. See `Hub.stream`."""
        options = self.check(channel)
        self._refuse_when_draining()
        made = format_of(format)
        owner = secrets.token_urlsafe(9)
        await self._users.add(user, owner)
        try:
            is_new, _ = await self._streams.create(
                channel,
                StreamOptions(
                    content_type=content_type or made.content_type,
                    ttl_s=options.stream_ttl_s if ttl_s is None else ttl_s,
                ),
                owner=owner,
                lease_s=self._options.stream_lease_s,
            )
            if not is_new:
                raise Refused("stream_conflict", f"stream {channel!r} is there already: take another name")
        except BaseException:
            self._users.remove(user, owner)
            raise
        return self._register(channel, owner, format, user)

    async def start(
        self, channel: Channel, producer: Producer, format: str | Format, *, ttl_s: float | None, user: str
    ) -> bool:
        """Begin a run, unless the stream is there. Returns whether it was begun. See `Hub.start_stream`."""
        while channel in self._starting:
            await asyncio.wait([self._starting[channel]])
        starting = asyncio.get_running_loop().create_task(
            self._start(channel, producer, format, ttl_s=ttl_s, user=user)
        )
        self._starting[channel] = starting
        starting.add_done_callback(lambda _: self._starting.pop(channel))
        return await asyncio.shield(starting)  # a request that breaks off does not take it back

    async def _start(
        self, channel: Channel, producer: Producer, format: str | Format, *, ttl_s: float | None, user: str
    ) -> bool:
        is_there = await self._is_there(channel)
        if not is_there:
            try:
                writer = await self.open(channel, format, content_type="", ttl_s=ttl_s, user=user)
            except Refused as refusal:
                is_there = refusal.code.name in _TAKEN and await self._is_there(channel)
                if not is_there:
                    raise
        if is_there:
            if inspect.iscoroutine(producer):
                producer.close()
            return False
        self._do(_produce(writer, producer))
        return True

    async def _is_there(self, channel: Channel) -> bool:
        self.check(channel)
        try:
            await self._streams.look(channel)
        except Refused as refusal:
            if refusal.code.name != "stream_not_found":
                raise
            return False
        return True

    async def cancel(self, channel: Channel) -> bool:
        """Close a stream as aborted, and end its run. Returns whether it was open."""
        self.check(channel)
        try:
            is_open = await self._streams.close(channel, "aborted")
        except Refused as refusal:
            if refusal.code.name not in ("stream_not_found", "stream_gone"):
                raise
            return False
        if channel in self._runs:
            self._runs[channel].writer.stop("aborted")
        elif is_open:
            self.tell(channel)
        return is_open

    def tell(self, channel: Channel) -> None:
        """A stream was closed or deleted: its run, wherever it is, hears now, not when it renews."""
        if channel in self._runs:
            self._runs[channel].writer.renew()  # the store knows how it ended
        elif self._shared is not None:
            self._do(self._tell_all(channel))

    async def find_start(self, channel: Channel, after: Position | str | None) -> Position | None:
        """The position to read a stream from; ``None``: nothing comes after that one. It is used, so its
        lifetime begins anew.

        Raises `Refused`: ``stream_not_found``, ``stream_gone``, ``bad_position``, ``unrecoverable_position``.
        """
        self.check(channel)
        record, tail, _ = await self._streams.look(channel)
        self._streams.touch(channel)
        if after is None:
            return Position(tail.epoch, 0)
        try:
            epoch, offset = Position.parse(after) if isinstance(after, str) else after
        except ValueError as error:
            raise Refused("bad_position", str(error)) from None
        last = tail.offset + bool(record.closed)
        if offset > (last if epoch == tail.epoch else record.epochs.get(epoch, -1)):
            raise Refused("unrecoverable_position", f"stream {channel!r} is not the one of this position")
        return None if record.closed and offset == last else Position(tail.epoch, offset)

    def check(self, channel: Channel) -> NamespaceOptions:
        """The options of a durable stream. Raises `Refused`: ``unknown_channel``, ``not_available``."""
        options = self._namespaces.of(channel)
        if not options.durable:
            raise Refused(
                "not_available", f"channel {channel!r} is no stream (durable = true in its namespace)"
            )
        return options

    # -- life ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The node has started."""
        self._until = self._finishing = None

    def drain(self) -> None:
        """The node stops: from now on runs have ``drain_s`` to finish, and none is begun. Idempotent."""
        if self._until is None:
            self._until = self._clocks.monotonic() + self._options.drain_s

    async def finish(self) -> None:
        """Wait for the runs, give away those that take too long, and end. Idempotent."""
        self.drain()
        if self._finishing is None:
            self._finishing = asyncio.get_running_loop().create_task(self._finish())
        await self._finishing

    async def _finish(self) -> None:
        assert self._until is not None
        if self._starting:
            await asyncio.wait(self._starting.values())
        if self._runs:
            log.info("%d streams have %g s to finish (drain_s)", len(self._runs), self._options.drain_s)
            left_s = max(0, self._until - self._clocks.monotonic())
            await asyncio.wait([run.left for run in self._runs.values()], timeout=left_s)
        await asyncio.gather(*map(self._give_away, list(self._runs.values())))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LEAVE_S)

    async def tick(self) -> None:
        """A background task of the node."""
        tick_s = min(_TICK_S, self._options.stream_lease_s / 10)
        while True:
            await asyncio.sleep(tick_s)
            self.advance()

    def advance(self) -> None:
        """Renew the leases of runs, and look after those of others."""
        now, renew_s = self._clocks.monotonic(), self._options.stream_lease_s / 3
        for run in self._runs.values():
            if now - run.writer.written_at >= renew_s:
                run.writer.renew()
        self.leases.advance()

    def _refuse_when_draining(self) -> None:
        if self._until is not None:
            raise Refused("shutdown", "the server is going away: come back after a moment")

    def _register(self, channel: Channel, owner: str, format: str | Format, user: str) -> StreamWriter:
        name = format if isinstance(format, str) else ""
        left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def leave() -> None:
            if self._runs.get(channel) is run:
                del self._runs[channel]
            self._users.remove(user, owner)
            left.set_result(None)

        writer = StreamWriter(
            self._streams,
            channel,
            owner,
            format_of(format).shaper(),
            max_message_bytes=self._options.max_message_bytes,
            now=lambda: self._clocks.monotonic(),
            left=leave,
        )
        run = self._runs[channel] = _Run(writer, name, user, left)
        return writer

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- other nodes -----------------------------------------------------------------------------------------

    async def _tell_all(self, channel: Channel) -> None:
        with contextlib.suppress(HeartwireError):  # else its run hears when it renews its lease
            await self._bus.ask_all("stream_stop", channel)

    async def _asked_to_stop(self, channel: Any) -> None:
        if channel in self._runs:
            self._runs[channel].writer.renew()  # the store knows whether it is closed

    async def _give_away(self, run: _Run) -> None:
        """End a run here: let another node go on with it, else close its stream as interrupted."""
        writer = run.writer
        writer.let_go()
        await asyncio.wait([run.left], timeout=_LEAVE_S)
        writer.give_up()
        try:
            if not await self._is_taken(run):
                await self._streams.close(writer.name, "interrupted", owner=writer.owner)
        except HeartwireError as error:
            log.warning("stream %r is left to its lease: %s", writer.name, error)

    async def _is_taken(self, run: _Run) -> bool:
        channel = run.writer.name
        if self._shared is None or not run.format or namespace_of(channel) not in self.successors:
            return False
        nodes = [node for node in await self._shared.nodes() if node != self._shared.node]
        self._clocks.chance.shuffle(nodes)
        about = [channel, run.writer.owner, run.format, run.user]
        for node in nodes:
            with contextlib.suppress(HeartwireError):
                if await self._bus.ask(node, "stream_take", about, within_s=_TAKE_S):
                    return True
        return False

    async def _asked_to_take(self, about: Any) -> bool:
        channel, owner, format, user = about
        successor = self.successors.get(namespace_of(channel))
        if self._until is not None or successor is None or channel in self._runs:
            return False
        heir = secrets.token_urlsafe(9)
        format_of(format)  # does this node know it?

        def take(record: StreamRecord | None, now_ms: int) -> Step:
            if record is None or record.closed or record.owner not in (owner, heir):
                return Step(record, (), False)
            return Step(msgspec.structs.replace(record, owner=heir), (), True)

        is_taken, _ = await self._streams.change(channel, take)
        if is_taken:
            self._succeed(self._register(channel, heir, format, user), successor, user)
        return bool(is_taken)

    def _succeed(self, writer: StreamWriter, successor: Successor, user: str) -> None:
        async def go_on() -> Any:
            with contextlib.suppress(HeartwireError):  # it was let in once
                await self._users.add(user, writer.owner)
            kept = await self._kept(writer.name)
            writer.resume(kept)
            return off_loop(successor)(writer.name, kept)

        writer.is_resumed = True
        self._do(_produce(writer, go_on))

    async def _kept(self, channel: Channel) -> list[str | bytes]:
        kept: list[str | bytes] = []
        start: Start = EARLIEST
        while True:
            read = self._history.read(channel, start, limit=_PAGE, max_bytes=PAGE_BYTES)
            page = (await settled(read)).publications
            if not page:
                return kept
            kept += [one.data.decode() if one.is_text else one.data for one in page]
            start = page[-1].position


async def _produce(writer: StreamWriter, producer: Producer) -> None:
    with contextlib.suppress(Exception):  # the writer has logged it, and told the readers
        async with writer, contextlib.aclosing(values_of(producer)) as values:
            async for value in values:
                await writer.write(value)
