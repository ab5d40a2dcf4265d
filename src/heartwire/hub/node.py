"""The parts of one running hub, and their common life. The dialects and doors of `heartwire.server` work with
it."""

import asyncio
import concurrent.futures
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from heartwire.core.fair_queue import FairQueue
from heartwire.core.subscription import Subscription
from heartwire.core.switchboard import Switchboard
from heartwire.core.waiting import settled
from heartwire.engines.contract import Engine, Feed, FeedState, Retention, shared_engine
from heartwire.errors import ConfigError, EngineError, NotStarted, Refused
from heartwire.hub import signals
from heartwire.hub.admission import Admission, Rates
from heartwire.hub.background import Background
from heartwire.hub.bus import Bus
from heartwire.hub.clocks import Clocks
from heartwire.hub.connections import Connections
from heartwire.hub.history import CatchUp, History
from heartwire.hub.hooks import Hooks
from heartwire.hub.identity import Authenticator, token_authenticator
from heartwire.hub.links import ServedLink
from heartwire.hub.namespaces import Namespaces
from heartwire.hub.options import HubOptions
from heartwire.hub.origins import check_host, check_origin, expected_hosts, the_host
from heartwire.hub.presence import Presence
from heartwire.hub.publishing import Publishing
from heartwire.hub.readiness import Readiness
from heartwire.hub.runs import Runs
from heartwire.hub.threads import running_loop
from heartwire.hub.turns import TurnBudget
from heartwire.hub.uploads import Uploads
from heartwire.hub.user_limits import UserConnections
from heartwire.streams.streams import Streams
from heartwire.types import Channel, Position, Publication

if TYPE_CHECKING:
    from heartwire.hub.tokens import Tokens

__all__ = ["Node"]

log = logging.getLogger("heartwire")

T = TypeVar("T")

LINGERING_TOPICS: Final = 1024
_NORMAL: Final = 1000
"""RFC 6455 7.4.1: the purpose of the connection is fulfilled."""


class Node:
    """See the module. It belongs to one event loop.

    Attributes:
        hosts: the names that requests may call this server by; None: any. See `guard_hosts`.
        new_secret: makes the secrets of sessions.
        leftovers: work of connections that sent more than one turn of the event loop serves.
        pages: the turns of polls whose answers are large.
        uploads: requests whose body is incomplete.
        bus: asks the other nodes.
        streams: the durable streams.
        runs: what writes them here.
        readiness: whether this one hears of what they publish.
        attached: what a program has added for a dialect, by the dialect's name.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, engine: Engine, options: HubOptions) -> None:
        self.engine = engine
        self.options = options
        self.clocks = Clocks()
        self.new_secret: Callable[[], str] = partial(secrets.token_urlsafe, 24)
        self.draining = False
        self._shared = shared_engine(engine)
        self.bus = Bus(self._shared, lambda: self.clocks.monotonic())
        self.readiness = Readiness(self._shared, lambda: self.clocks.monotonic())
        self.leftovers = FairQueue(self._soon)
        self.tokens = _tokens(options, lambda: self.clocks.monotonic())
        self.authenticator = self._by_token = self._token_authenticator()
        self.namespaces = Namespaces(options)
        self.hooks = Hooks()
        self.admission = Admission(options)
        self.rates = Rates(options)
        self.pages = TurnBudget()
        self.history = History(engine, self.namespaces)
        self._catch_up = CatchUp(self.history)
        self.switchboard = Switchboard(
            read=self._catch_up.read,
            soon=self._soon,
            kept=self._kept,
            lingering=LINGERING_TOPICS,
            watch=self._watch,
            ended=self._ended,
        )
        self._catch_up.switchboard = self.switchboard
        self.streams = Streams(engine, max_bytes=self._max_stream_bytes, ended=self._stream_ended)
        self.runs = Runs(
            self.streams, self.history, self.namespaces, options, self.clocks, self.bus, self._shared
        )
        lease_s = options.ping_interval_s + options.pong_timeout_s
        self.presence = Presence(engine, self.switchboard, self.namespaces, lease_s=lease_s)
        self.publishing = Publishing(engine, self.streams, self.namespaces, self.hooks, options, self.clocks)
        self.background = Background(
            options, self.clocks, lease_s=lease_s, renew=self._renew, sweep=self._sweep
        )
        self.uploads = Uploads(options.incomplete_bytes, self.clocks, self.background.deadlines)
        node_id = secrets.token_hex(4) if self._shared is None else self._shared.node
        users = UserConnections(options.max_connections_per_user, self._shared)
        deadlines = self.background.deadlines
        self.connections = Connections(node_id, self.admission, users, deadlines, self.clocks)
        self._starting: asyncio.Future[None] | None = None
        self.hosts: frozenset[str] | None = None
        if options.allowed_hosts:
            self.guard_hosts()
        self._handed: set[asyncio.Task[Any]] = set()
        self.attached: dict[str, object] = {}

    async def remove_history(self, channel: Channel) -> Position:
        """See `Hub.remove_history`."""
        if self.namespaces.is_durable(channel):
            raise Refused(
                "not_available", f"{channel!r} is a durable stream: it is kept, or deleted as a whole"
            )
        position = await settled(self.engine.remove(channel))
        self.switchboard.forget(channel)
        return position

    async def turn(self) -> None:
        """Wait for one's turn among those of ``leftovers``."""
        come = self.loop.create_future()
        self.leftovers.add(lambda: None if come.done() else come.set_result(None))
        await come

    # -- who may ask -----------------------------------------------------------------------------------------

    def guard_hosts(self) -> None:
        """Take only requests to loopback names and to those of ``allowed_hosts`` and ``allowed_origins``."""
        self.hosts = expected_hosts(self.options.allowed_hosts, self.options.allowed_origins)

    def check_page(self, origin: str | None, hosts: Sequence[str], http_version: str) -> None:
        """Check ``Origin`` and ``Host`` of a request. Raises `Refused` (``host_refused``, ``origin_refused``)
        for a page that may not use this hub, ``bad_request`` for other than one ``Host``."""
        host = the_host(hosts, http_version)
        check_host(host, self.hosts)
        if origin is not None:
            check_origin(origin, host, self.options.allowed_origins)

    def _check_origins(self) -> None:
        """Tokens come from the page itself; cookies come along with the requests of any page."""
        options = self.options
        is_own = self.authenticator is not self._by_token
        if is_own and "*" in options.allowed_origins and not options.authenticator_ignores_cookies:
            fix = (
                "pages of any site could use their visitor's cookies: list the origins, or say"
                " authenticator_ignores_cookies=True if @hub.authenticate reads none"
            )
            raise ConfigError("allowed_origins", list(options.allowed_origins), fix)

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the engine; after `stop`, begin anew. Idempotent.

        Raises:
            EngineError: it cannot be opened.
            ConfigError: options do not go together.
            NotStarted: the node runs in another event loop.
        """
        if self._starting is None:
            self._check_origins()
            self.draining = False
            self.loop = self._catch_up.loop = asyncio.get_running_loop()
            self._starting = self.loop.create_future()
            try:
                await self.engine.start(self._feed())
            except BaseException:
                self._starting.cancel()
                self._starting = None
                raise
            if self._shared is not None:  # a hub that was made before a fork is another node in each process
                self.connections.node_id = self._shared.node
            self.background.start()
            self.runs.begin()
            self.background.tasks.append(self.loop.create_task(self.runs.tick()))
            self._starting.set_result(None)
        elif self.loop is not asyncio.get_running_loop():
            fix = "run it in the server's lifespan (lifespan=hub.lifespan, with a lifespan for each loop)"
            raise NotStarted(f"the hub belongs to another event loop, which started it: {fix}")
        await asyncio.shield(self._starting)

    @property
    def is_started(self) -> bool:
        """Whether `start` has returned."""
        return self._starting is not None and self._starting.done()

    async def ensure_started(self) -> None:
        """`start`, but quick where it has been done. A stopped node is left to refuse: only `start` begins
        anew."""
        if self._starting is None and self.draining:
            return
        if not self.is_started or self.loop is not asyncio.get_running_loop():
            await self.start()

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a call of the program in the node's loop, whichever loop it comes from. Raises `NotStarted`
        before anything happens."""
        if self._own_loop() is asyncio.get_running_loop():
            return await work()
        return await asyncio.wrap_future(self._hand_over(work))

    def run_sync(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """`run` for a thread, which waits."""
        if running_loop() is self._own_loop():
            raise RuntimeError(
                "a call that waits would hold up the hub's own event loop: await the async one"
            )
        return self._hand_over(work).result()

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        if not self.is_started or not (running_loop() is self.loop or self.loop.is_running()):
            raise NotStarted("the hub is not started in this process, so nobody would read it")
        return self.loop

    def _hand_over(self, work: Callable[[], Coroutine[Any, Any, T]]) -> "concurrent.futures.Future[T]":
        async def handed() -> T:
            self._own_loop()  # it may have stopped meanwhile
            task = asyncio.current_task()
            assert task is not None
            self._handed.add(task)
            task.add_done_callback(self._handed.discard)
            return await work()

        return asyncio.run_coroutine_threadsafe(handed(), self.loop)

    def drain(self) -> None:
        """End every connection with ``shutdown``, and refuse new ones from now on. Call it on the event
        loop's thread."""
        self.draining = True
        self.runs.drain()
        self.switchboard.flush()
        self.connections.drain()
        self.uploads.refuse_all(_going_away())

    def refuse_when_draining(self) -> None:
        """Raises `Refused` (``shutdown``) once the node is on its way out."""
        if self.draining:
            raise _going_away()

    async def stop(self) -> None:
        """Drain, wait for the runs, and close the engine once everything accepted is stored. Idempotent."""
        if self._starting is None:
            return
        self.drain()
        try:
            await self.runs.finish()
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self._starting is None:
            return
        self._starting = None
        await self.background.stop()
        await asyncio.gather(*self._handed, return_exceptions=True)
        await self.streams.settle()
        await self.engine.stop()
        self.switchboard.flush()
        for _ in range(2):  # topics without readers: another process may go on with the store
            self.switchboard.sweep()

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """See `Hub.lifespan`."""
        await self.start()
        try:
            with signals.heard(asyncio.get_running_loop(), self.drain):
                yield
        finally:
            await self.stop()

    def _swept_to(self, channel: Channel) -> Retention:
        """The retention of a channel for a sweep. A store's thread may call it."""
        keep = self.namespaces.retention(channel)
        return (
            Retention(keep.history_size, keep.history_ttl_s, True)
            if channel in self.switchboard.topics
            else keep
        )

    def _kept(self, channel: Channel) -> tuple[int, int]:
        keep = self.namespaces.retention(channel)
        return keep.history_size, keep.since_ms(self.clocks.forward())

    def _feed(self) -> Feed:
        board = self.switchboard
        return Feed(
            publication=board.notify,
            behind=board.behind,
            removed=self._heard_removed,
            member=self.presence.heard,
            mail=self.bus.heard,
            state=self._heard_state,
        )

    def _heard_removed(self, channel: Channel, position: Position) -> None:
        self.switchboard.forget(channel)
        self._stream_ended(channel, position)  # its epoch may have ended, too

    def _stream_ended(self, channel: Channel, position: Position) -> None:
        self.switchboard.behind(channel, position)
        if channel in self.switchboard.topics:
            self._look_after(channel, True)

    def _heard_state(self, state: FeedState, why: str) -> None:
        self.readiness.heard(state, why)
        self.switchboard.is_deaf = state != "up"

    def _max_stream_bytes(self, channel: Channel) -> int:
        return self.namespaces.of(channel).max_stream_bytes

    def _watch(self, channel: Channel, begins: bool) -> None:
        self._look_after(channel, begins)
        if self._shared is not None:
            (self._shared.watch if begins else self._shared.unwatch)(channel)

    def _look_after(self, channel: Channel, begins: bool) -> None:
        with contextlib.suppress(Refused):  # its namespace may not be configured any more
            if self.namespaces.is_durable(channel):
                (self.runs.leases.follow if begins else self.runs.leases.unfollow)(channel)

    def _ended(self, subscription: Subscription, end: Publication) -> None:
        """A subscription has got all of a stream that is closed: it is told, and leaves. Without another, its
        link has nothing left to tell."""
        link, listener = cast("ServedLink", subscription.link), subscription.listener
        if listener is not None:
            listener.ended(subscription, end)
        else:
            payload = subscription.format.ended(end)
            if payload is not None:
                subscription.write(payload)
        if subscription in link.subscriptions:  # else its listener has left already
            self.presence.unfollow(link, subscription)
        if listener is None and not link.subscriptions:
            link.close(_NORMAL, f"stream closed: {end.reason}")

    def _soon(self, work: Callable[[], None]) -> None:
        self.loop.call_soon(work)

    def _renew(self) -> None:
        self.switchboard.sweep()
        self.presence.renew()

    async def _sweep(self, now: float) -> None:
        self.rates.sweep(now)
        try:
            await self.engine.sweep(self._swept_to)
        except EngineError as error:
            log.error("old publications could not be swept: %s", error)

    def _token_authenticator(self) -> Authenticator | None:
        if self.tokens is None:
            return None
        is_open = self.options.allow_anonymous or self.options.insecure
        return token_authenticator(self.tokens, lambda: self.clocks.wall(), allow_anonymous=is_open)


def _going_away() -> Refused:
    return Refused("shutdown", "the server is going away: come back after a moment")


def _tokens(options: HubOptions, clock: Callable[[], float]) -> "Tokens | None":
    if not options.has_tokens:
        return None
    from heartwire.hub.tokens import Tokens  # PyJWT and cryptography are imported only where they are used

    return Tokens(options, clock)
