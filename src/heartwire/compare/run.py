"""Doing it: servers, publishers, subscribers behind proxies, and the three runs."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import heartwire
from heartwire.client.client import Client, connect
from heartwire.client.options import Options
from heartwire.client.outputs import Closed
from heartwire.compare.figures import Fault, Figure, Report, Result
from heartwire.compare.subscribers import BARE_RETRY_S, Follower, follower
from heartwire.compare.meter import Reading, beats
from heartwire.compare.plan import (
    DEFAULT_BACKOFF_CAP_S,
    DEFAULT_PING_INTERVAL_S,
    DEFAULT_POLL_WAIT_S,
    DEFAULT_PONG_TIMEOUT_S,
    KINDS,
    SHORT_BACKOFF_CAP_S,
    Kind,
    Plan,
    check_plan,
    message,
)
from heartwire.compare.summary import Life, cost_of, fault_of, idle_of, lane_of, news_of, parts_of, shown
from heartwire.errors import ConfigError
from heartwire.testing.server import ServerProcess, run_server

__all__ = ["Tell", "measure", "notes_of", "settings_of"]

Tell = Callable[[str, float], None]
"""Told what is going on, and which share of the whole is done (0 to 1)."""

_SETTLE_S: Final = 0.5
_LOOK_S: Final = 0.02
_STEADY_DRAIN_S: Final = 10.0
_FAULT_DRAIN_S: Final = 12.0
_REMOTE_FAULT_DRAIN_S: Final = 60.0
"""A server that is not ours keeps its heartbeat: 25 s and 10 are its default."""
_REACH_S: Final = 10.0
_LANE_S: Final = 6.0
_MAX_FAULT_SUBSCRIBERS: Final = 4
_MODES: Final = ("cut", "half_open")

Groups = dict[str, list[Follower]]
"""By the name of their transport."""


class Place(NamedTuple):
    """A server, and a client that publishes to it, past all proxies. ``pid``: 0 where it is not ours."""

    url: str
    pid: int
    publisher: Client


class Steady(NamedTuple):
    """What the steady run recorded of one transport."""

    lives: list[Life]
    setup: Reading
    stream: Reading
    sent: list[float]
    cpu_ns: int | None
    first: Follower


async def measure(plan: Plan, tell: Tell) -> Report:
    """Run a comparison. Raises `ConfigError` for a plan that can't be, and for a server that can't be
    used."""
    check_plan(plan)
    async with AsyncExitStack() as stack:
        return await _Run(plan, tell, stack).run()


class _Run:
    """One comparison."""

    def __init__(self, plan: Plan, tell: Tell, stack: AsyncExitStack) -> None:
        self.plan = plan
        self.stack = stack
        self.began = time.monotonic()
        self._tell = tell
        self._prefix = f"compare-{secrets.token_hex(4)}-" if plan.url else ""
        self._loop = asyncio.get_running_loop()
        self.check: dict[str, Figure] = {}
        self._all_sent = asyncio.Event()

    async def run(self) -> Report:
        """All of it."""
        self._tell("starting" if not self.plan.url else "connecting", 0)
        places, nobody, other = await self._places()
        idle, steady_groups, fault_groups = await self._everybody(places, other)
        idle_since = self._loop.time() + 1
        failing = self._loop.create_task(self._faults(other, fault_groups))
        try:
            steady = await self._steady(places, nobody, steady_groups)
            faults = await failing
        finally:
            failing.cancel()
        idle_until = self._loop.time()
        self._tell("summing up", 1)
        results = {}
        for kind in KINDS:
            found = beats(idle[kind.name][0].meter.passed, idle_since, idle_until)
            results[kind.name] = self._result(kind, steady[kind.name], idle_of(kind, found), faults)
        self.check["took"] = Figure(round(time.monotonic() - self.began, 1), "s")
        return Report(
            heartwire=heartwire.__version__,
            when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            server=self.plan.url,
            settings=settings_of(self.plan),
            check=self.check,
            notes=notes_of(self.plan),
            transports=results,
        )

    # -- servers ---------------------------------------------------------------------------------------------

    async def _places(self) -> tuple[dict[str, Place], Place | None, Place]:
        """A place for each transport, one that nobody follows, and one for what is idle or fails."""
        plan = self.plan
        if plan.url:
            await _reach(plan.url)
            place = Place(plan.url, 0, await self._publisher(plan.url))
            return {kind.name: place for kind in KINDS}, None, place
        short = (
            "--ping-interval-s",
            f"{plan.ping_interval_s:g}",
            "--pong-timeout-s",
            f"{plan.pong_timeout_s:g}",
        )
        names = [*(kind.name for kind in KINDS), "nobody", "other"]
        starting = [self._server(short if name == "other" else ()) for name in names]
        started = await asyncio.gather(
            *starting, return_exceptions=True
        )  # all of them: what has started is to be ended
        found: dict[str, Place] = {}
        for name, one in zip(names, started, strict=True):
            if isinstance(one, BaseException):
                raise one
            found[name] = one
        return {kind.name: found[kind.name] for kind in KINDS}, found["nobody"], found["other"]

    async def _server(self, arguments: Sequence[str]) -> Place:
        context = run_server(*arguments)
        starting = asyncio.ensure_future(asyncio.to_thread(context.__enter__))
        try:
            server: ServerProcess = await asyncio.shield(starting)
        except RuntimeError as error:
            fix = f"without one it starts servers of its own, but: {str(error).strip().splitlines()[-1]}"
            raise ConfigError("URL", "", fix) from error
        except asyncio.CancelledError:
            await starting  # it has begun: it is to be ended too
            await asyncio.to_thread(context.__exit__, None, None, None)
            raise
        self.stack.push(context)
        return Place(server.url, server.pid, await self._publisher(server.url))

    async def _publisher(self, url: str) -> Client:
        options = Options() if self.plan.url else Options(transports=("websocket",))
        client = connect(url, token=self.plan.token, options=options)
        last = "it does not answer"

        def closed(event: Closed) -> None:
            nonlocal last
            last = event.reason or str(event.code)

        client.on("close", closed)
        client.on("error", lambda error: None)
        client.start()
        self.stack.push_async_callback(client.close)
        try:
            await asyncio.wait_for(client.wait_online(), _REACH_S)
        except (heartwire.HeartwireError, TimeoutError):
            raise ConfigError(
                "URL", url, f"no Heartwire server that lets us in: {last}; is it one, and is --token right?"
            ) from None
        return client

    async def _everybody(
        self, places: dict[str, Place], other: Place
    ) -> tuple[Groups, Groups, dict[str, Groups]]:
        """All subscribers of all runs, ready: the idle, the steady, and those whose link will fail, by
        mode."""
        plan, is_short = self.plan, not self.plan.url
        failing = min(plan.subscribers, _MAX_FAULT_SUBSCRIBERS)
        idle = {kind.name: self._followers(other.url, "idle", kind, 1, is_short=is_short) for kind in KINDS}
        steady = {
            kind.name: self._followers(
                places[kind.name].url, "steady", kind, plan.subscribers, is_short=False
            )
            for kind in KINDS
        }
        faults = {
            mode: {
                kind.name: self._followers(other.url, mode, kind, failing, is_short=True) for kind in KINDS
            }
            for mode in (_MODES if plan.cut_s else ())
        }
        everybody = [one for groups in (idle, steady, *faults.values()) for one in _all(groups)]
        await asyncio.gather(*(self.stack.enter_async_context(one) for one in everybody))
        await asyncio.sleep(_SETTLE_S)
        return idle, steady, faults

    def _followers(self, url: str, run: str, kind: Kind, count: int, *, is_short: bool) -> list[Follower]:
        channel = self._channel(run, kind)
        return [follower(kind, url, channel, self.plan, is_short=is_short) for _ in range(count)]

    def _channel(self, run: str, kind: Kind) -> str:
        """Short, because its name is in the envelope of each message."""
        return f"{self._prefix}{run[0]}{KINDS.index(kind)}"

    # -- the steady run --------------------------------------------------------------------------------------

    async def _steady(
        self, places: dict[str, Place], nobody: Place | None, groups: Groups
    ) -> dict[str, Steady]:
        plan = self.plan
        setup = {name: Reading.sum(one.meter.read() for one in group) for name, group in groups.items()}
        cpu = {name: cpu_ns(place.pid) for name, place in places.items()}
        idle_cpu = cpu_ns(nobody.pid) if nobody is not None else None
        count = max(1, round(plan.seconds * plan.rate_per_s))
        targets = {kind.name: (places[kind.name], self._channel("steady", kind)) for kind in KINDS}
        if nobody is not None:
            targets["nobody"] = nobody, "nobody"
        sent = await self._publish(targets, count, ("messages come", 0.1, 0.5 if plan.cut_s else 0.85))
        self._all_sent.set()
        everybody = _all(groups)
        await self._until(lambda: all(len(one.numbers) == count for one in everybody), _STEADY_DRAIN_S)
        cpu_after = {name: cpu_ns(place.pid) for name, place in places.items()}
        idle_cpu = _minus(cpu_ns(nobody.pid) if nobody is not None else None, idle_cpu)
        found = {}
        for name, group in groups.items():
            stream = Reading.sum(one.meter.read() for one in group).since(setup[name])
            spent = _minus(_minus(cpu_after[name], cpu[name]), idle_cpu)
            lives = [Life(list(one.arrivals), list(one.noticed)) for one in group]
            found[name] = Steady(lives, setup[name], stream, sent[name], spent, group[0])
        self._compare_with_kernel(everybody)
        await asyncio.gather(*(one.leave() for one in everybody))
        return found

    def _compare_with_kernel(self, everybody: Sequence[Follower]) -> None:
        """Of the connections that are still open: what passed the proxies, and what the kernel says."""
        ours = kernel = 0
        is_known = True
        for one in everybody:
            counted = one.network.counted_by_kernel()
            is_known = is_known and counted is not None
            open_now = [record for record in one.network.records if record.closed_at is None]
            ours += sum(record.bytes_up + record.bytes_down for record in open_now)
            kernel += sum(counted or (0, 0))
        all_bytes = sum(one.network.bytes_up + one.network.bytes_down for one in everybody)
        note = "" if is_known else "this kernel does not tell"
        self.check |= {
            "counted_by_proxies": Figure(all_bytes, "B"),
            "of_open_connections": Figure(ours, "B"),
            "counted_by_kernel": Figure(kernel if is_known else None, "B", note),
            "difference": Figure(
                round(100 * (kernel - ours) / ours, 3) if is_known and ours else None, "%", note
            ),
        }

    async def _publish(
        self,
        targets: dict[str, tuple[Place, str]],
        count: int,
        progress: tuple[str, float, float] | None = None,
    ) -> dict[str, list[float]]:
        """Publish to all, at an even pace and one after the other; when each was sent."""
        start = self._loop.time() + 0.1
        apart_s = 1 / self.plan.rate_per_s

        async def one(index: int, place: Place, channel: str) -> list[float]:
            answers: list[asyncio.Task[Any]] = []
            sent: list[float] = []
            for number in range(1, count + 1):
                # Not all at one moment: they would wait for one another in this process, and that would be
                # measured.
                await asyncio.sleep(
                    max(0, start + apart_s * (number - 1 + index / len(targets)) - self._loop.time())
                )
                now = self._loop.time()
                sent.append(now)
                body = message(number, int(now * 1e6), self.plan.size_bytes)
                answers.append(self._loop.create_task(place.publisher.publish(channel, body)))
                if index == 0 and progress is not None:
                    text, first, last = progress
                    self._tell(text, first + (last - first) * number / count)
            await asyncio.gather(*answers)
            return sent

        lists = await asyncio.gather(*(one(index, *target) for index, target in enumerate(targets.values())))
        return dict(zip(targets, lists, strict=True))

    async def _until(self, condition: Callable[[], bool], within_s: float) -> None:
        end = self._loop.time() + within_s
        while not condition() and self._loop.time() < end:  # noqa: ASYNC110 - dozens of subscribers, and nobody in a hurry
            await asyncio.sleep(_LOOK_S)

    # -- the runs in which the link fails --------------------------------------------------------------------

    async def _faults(self, place: Place, groups: dict[str, Groups]) -> dict[str, dict[str, Fault]]:
        """Both at once, for they share neither channels nor proxies; as soon as all messages of the steady
        run are on their way."""
        plan = self.plan
        if not groups:
            return {}
        await self._all_sent.wait()
        count = max(1, round(plan.fault_seconds * plan.rate_per_s))
        targets = {
            f"{mode} {kind.name}": (place, self._channel(mode, kind)) for mode in _MODES for kind in KINDS
        }
        publishing = self._loop.create_task(self._publish(targets, count, ("the link fails", 0.6, 0.9)))
        try:
            await asyncio.sleep(0.1 + plan.before_s)
            failed_at = self._loop.time()
            for one in _all(groups["cut"]):
                one.network.refuse()
                one.network.reset()
            for one in _all(groups["half_open"]):
                one.network.lose()
                one.network.black_hole()
            await asyncio.sleep(plan.cut_s)
            healed_at = self._loop.time()
            for one in [*_all(groups["cut"]), *_all(groups["half_open"])]:
                one.network.heal()
            sent = await publishing
        finally:
            publishing.cancel()
        ours = [one for mode in _MODES for one in _all(groups[mode]) if one.kind.transport is not None]
        self._tell("catching up", 0.92)
        limit_s = _REMOTE_FAULT_DRAIN_S if plan.url else _FAULT_DRAIN_S
        await self._until(lambda: all(len(one.numbers) == count for one in ours), limit_s)
        ended_at = self._loop.time()

        def of(mode: str, kind: Kind) -> Fault:
            lives = [Life(one.arrivals, one.noticed) for one in groups[mode][kind.name]]
            return fault_of(lives, sent[f"{mode} {kind.name}"], failed_at, healed_at, ended_at)

        return {mode: {kind.name: of(mode, kind) for kind in KINDS} for mode in _MODES}

    # -- figures ---------------------------------------------------------------------------------------------

    def _result(
        self, kind: Kind, steady: Steady, idle: dict[str, Figure], faults: dict[str, dict[str, Fault]]
    ) -> Result:
        plan, first = self.plan, steady.first
        news = news_of(steady.lives, len(steady.sent))
        why_no_cpu = (
            "not measured: the server is not ours" if plan.url else "not measured: this system does not tell"
        )
        start, end = steady.sent[0], steady.sent[-1]
        middle = max(start, (start + end - _LANE_S) / 2)
        conversations = list(first.meter.conversations.values())
        return Result(
            label=kind.label,
            news=news,
            cost=cost_of(
                steady.setup,
                steady.stream,
                int(news["delivered"].value or 0),
                len(steady.lives),
                plan.size_bytes,
                steady.cpu_ns,
                why_no_cpu if steady.cpu_ns is None else "",
            ),
            setup={"up": parts_of(steady.setup.up), "down": parts_of(steady.setup.down)},
            stream={"up": parts_of(steady.stream.up), "down": parts_of(steady.stream.down)},
            idle=idle,
            lane=lane_of(first.meter.passed, first.arrivals, middle, middle + _LANE_S),
            # What was sent with a token shows the token, masked or not.
            trace=shown(conversations[0].pieces) if conversations and not plan.token else [],
            cut=faults["cut"][kind.name] if faults else None,
            half_open=faults["half_open"][kind.name] if faults else None,
        )


def _all(groups: Groups) -> list[Follower]:
    return [one for group in groups.values() for one in group]


def _minus(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one - other


def cpu_ns(pid: int) -> int | None:
    """The time that all threads of a process were on a processor. Linux only: ``None`` elsewhere, and for no
    process of ours."""
    if not pid:
        return None
    try:
        return (
            sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
            or None
        )
    except (OSError, ValueError, IndexError):
        return None


async def _reach(url: str) -> None:
    """Raise `ConfigError` where nobody listens."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    opening: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.open_connection(
        parts.hostname, port
    )
    try:
        _, writer = await asyncio.wait_for(opening, _REACH_S)
    except OSError as error:
        why = error.strerror or str(error) or f"no answer within {_REACH_S:g} s"
        fix = f"cannot be reached: {why}; start it with `heartwire serve`, or leave the URL out"
        raise ConfigError("URL", url, fix) from None
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def settings_of(plan: Plan) -> dict[str, Figure]:
    """The options of a run, the defaults, and what was shortened."""
    own = not plan.url
    settings = {
        "seconds": Figure(plan.seconds, "s"),
        "rate": Figure(plan.rate_per_s, "messages/s"),
        "size": Figure(plan.size_bytes, "B"),
        "subscribers": Figure(plan.subscribers, "subscribers"),
        "default_ping_interval": Figure(DEFAULT_PING_INTERVAL_S, "s"),
        "default_pong_timeout": Figure(DEFAULT_PONG_TIMEOUT_S, "s"),
        "default_poll_wait": Figure(DEFAULT_POLL_WAIT_S, "s"),
        "ping_interval": Figure(
            plan.ping_interval_s if own else None, "s", "" if own else "the server's own"
        ),
        "pong_timeout": Figure(plan.pong_timeout_s, "s"),
        "poll_wait": Figure(plan.poll_wait_s, "s"),
        "bare_retry": Figure(BARE_RETRY_S, "s"),
        "default_longest_wait_between_attempts": Figure(DEFAULT_BACKOFF_CAP_S, "s"),
        "longest_wait_between_attempts": Figure(SHORT_BACKOFF_CAP_S, "s"),
    }
    if plan.cut_s:
        settings |= {
            "fault_subscribers": Figure(min(plan.subscribers, _MAX_FAULT_SUBSCRIBERS), "subscribers"),
            "before": Figure(plan.before_s, "s"),
            "cut": Figure(plan.cut_s, "s"),
            "after": Figure(plan.after_s, "s"),
        }
    return settings


def notes_of(plan: Plan) -> list[str]:
    """What to know when reading the figures."""
    short_s = plan.ping_interval_s + plan.pong_timeout_s
    default = f"{DEFAULT_PING_INTERVAL_S:g} s + {DEFAULT_PONG_TIMEOUT_S:g} s"
    notes = [
        (
            "Latency is from the publisher's send to the subscriber's function, by one clock: the way up, the"
            " server, the way down."
        ),
        (
            "Bytes are TCP payload as it passed each subscriber's proxy on this machine, without TCP's and"
            " IP's own headers."
        ),
    ]
    if plan.url:
        notes.append("Server CPU was not measured: the server is not ours.")
        notes.append(
            "The server keeps its own heartbeat; where the link fails, the client adds"
            f" {plan.pong_timeout_s:g} s of patience (default {DEFAULT_PONG_TIMEOUT_S:g} s) and long polls"
            f" are held {plan.poll_wait_s:g} s (default {DEFAULT_POLL_WAIT_S:g} s)."
        )
    else:
        notes.append(
            "Server CPU is that of the transport's own server, less that of one which gets the same messages"
            " and has no readers."
        )
        notes.append(
            f"Idle and failing connections: heartbeat every {plan.ping_interval_s:g} s,"
            f" {plan.pong_timeout_s:g} s of patience, long polls held {plan.poll_wait_s:g} s, so that it ends"
            f" soon. The defaults are {default} and {DEFAULT_POLL_WAIT_S:g} s: with them a dead link is"
            f" noticed within 35 s, not {short_s:g} s."
        )
    notes.append(
        "An idle minute is one exchange as it was measured, as often as it happens with the default settings."
    )
    if plan.cut_s:
        waits = f"at most {SHORT_BACKOFF_CAP_S:g} s apart instead of {DEFAULT_BACKOFF_CAP_S:g} s"
        notes.append(
            f"Where the link fails, attempts to connect are {waits}, so that nobody is still out at the end."
        )
    notes.append(
        "The bare WebSocket has no heartbeat and no position; when it is closed it connects again after"
        f" about {BARE_RETRY_S:g} s."
    )
    if plan.is_tls:
        notes.append("Bytes include TLS, and can't be told apart.")
    return notes
