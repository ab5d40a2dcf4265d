"""A comparison as it runs: subscribers behind proxies, and the steady, idle and failing runs.

`measure` is all of it. It opens the `places`, waits for all `subscribers`, sends messages, and hands the
records to `summary`.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple

import heartwire
from heartwire.compare.figures import Fault, Figure, Report, Result
from heartwire.compare.meter import Reading, beats
from heartwire.compare.places import Place, Places, cpu_ns, open_places
from heartwire.compare.plan import KINDS, Kind, Plan, check_plan, message
from heartwire.compare.settings import MAX_FAULT_SUBSCRIBERS, notes_of, settings_of
from heartwire.compare.subscribers import Subscriber, subscriber
from heartwire.compare.summary import Life, cost_of, fault_of, idle_of, lane_of, news_of, parts_of, shown

__all__ = ["Progress", "measure"]

Progress = Callable[[str, float], None]
"""Called with the current step, and the share of the whole that is done (0 to 1)."""

_SETTLE_S: Final = 0.5
_LOOK_S: Final = 0.02
_STEADY_DRAIN_S: Final = 10.0
_FAULT_DRAIN_S: Final = 12.0
_REMOTE_FAULT_DRAIN_S: Final = 60.0
"""A server that is not ours keeps its heartbeat: 25 s and 10 s by default."""
_LANE_S: Final = 6.0
_MODES: Final = ("cut", "half_open")

Groups = dict[str, list[Subscriber]]
"""Subscribers by the name of their transport."""
Faults = dict[str, dict[str, Fault]]
"""By mode and transport."""


class Everybody(NamedTuple):
    """The subscribers of all runs. ``failing``: by mode."""

    idle: Groups
    steady: Groups
    failing: dict[str, Groups]


class Steady(NamedTuple):
    """The records of one transport in the steady run."""

    lives: list[Life]
    setup: Reading
    stream: Reading
    sent: list[float]
    cpu_ns: int | None
    first: Subscriber


async def measure(plan: Plan, progress: Progress) -> Report:
    """Run a comparison. Raises `ConfigError` for an impossible plan or an unusable server."""
    check_plan(plan)
    async with AsyncExitStack() as stack:
        return await _Run(plan, progress, stack).run()


class _Run:
    """One comparison."""

    def __init__(self, plan: Plan, progress: Progress, stack: AsyncExitStack) -> None:
        self.plan, self.stack = plan, stack
        self.began = time.monotonic()
        self.check: dict[str, Figure] = {}
        self._progress = progress
        self._prefix = f"compare-{secrets.token_hex(4)}-" if plan.url else ""
        self._loop = asyncio.get_running_loop()
        self._all_sent = asyncio.Event()

    async def run(self) -> Report:
        """Run all of it."""
        self._progress("starting" if not self.plan.url else "connecting", 0)
        places = await open_places(self.plan, self.stack)
        everybody = await self._subscribe(places)
        idle_since = self._loop.time() + 1
        failing = self._loop.create_task(self._faults(places.other, everybody.failing))
        try:
            steady = await self._steady(places, everybody.steady)
            faults = await failing
        finally:
            failing.cancel()
        idle_until = self._loop.time()
        self._progress("summing up", 1)
        results = {}
        for kind in KINDS:
            found = beats(everybody.idle[kind.name][0].meter.passed, idle_since, idle_until)
            results[kind.name] = self._result(kind, steady[kind.name], idle_of(kind, found), faults)
        self.check["took"] = Figure(round(time.monotonic() - self.began, 1), "s")
        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        described = (settings_of(self.plan), self.check, notes_of(self.plan))
        return Report(heartwire.__version__, when, self.plan.url, *described, results)

    async def _subscribe(self, places: Places) -> Everybody:
        """Make the subscribers of all runs, and wait until they are ready."""
        plan, other = self.plan, places.other
        failing = min(plan.subscribers, MAX_FAULT_SUBSCRIBERS)

        def groups(run: str, count: int, *, is_short: bool) -> Groups:
            made = {}
            for kind in KINDS:
                url = places.by_transport[kind.name].url if run == "steady" else other.url
                channel = self._channel(run, kind)
                make = partial(subscriber, kind, url, channel, plan, is_short=is_short)
                made[kind.name] = [make() for _ in range(count)]
            return made

        idle = groups("idle", 1, is_short=not plan.url)
        steady = groups("steady", plan.subscribers, is_short=False)
        faults = {mode: groups(mode, failing, is_short=True) for mode in (_MODES if plan.cut_s else ())}
        all_of_them = [one for made in (idle, steady, *faults.values()) for one in _all(made)]
        await asyncio.gather(*(self.stack.enter_async_context(one) for one in all_of_them))
        await asyncio.sleep(_SETTLE_S)
        return Everybody(idle, steady, faults)

    def _channel(self, run: str, kind: Kind) -> str:
        """A short name, because it is in the envelope of each message."""
        return f"{self._prefix}{run[0]}{KINDS.index(kind)}"

    # -- the steady run --------------------------------------------------------------------------------------

    async def _steady(self, places: Places, groups: Groups) -> dict[str, Steady]:
        plan, everybody = self.plan, _all(groups)
        setup = {name: Reading.sum(one.meter.read() for one in group) for name, group in groups.items()}
        cpu = {name: cpu_ns(place) for name, place in places.by_transport.items()}
        empty_cpu = cpu_ns(places.empty)
        count = max(1, round(plan.seconds * plan.rate_per_s))
        by_name = places.by_transport
        targets = {kind.name: (by_name[kind.name], self._channel("steady", kind)) for kind in KINDS}
        if places.empty is not None:
            targets["nobody"] = places.empty, "nobody"
        sent = await self._publish(targets, count, ("messages come", 0.1, 0.5 if plan.cut_s else 0.85))
        self._all_sent.set()
        await self._until(lambda: all(len(one.numbers) == count for one in everybody), _STEADY_DRAIN_S)
        cpu_after = {name: cpu_ns(place) for name, place in places.by_transport.items()}
        empty_cpu = _minus(cpu_ns(places.empty), empty_cpu)
        found = {}
        for name, group in groups.items():
            stream = Reading.sum(one.meter.read() for one in group).since(setup[name])
            spent = _minus(_minus(cpu_after[name], cpu[name]), empty_cpu)
            lives = [Life(list(one.arrivals), list(one.noticed)) for one in group]
            found[name] = Steady(lives, setup[name], stream, sent[name], spent, group[0])
        self._compare_with_kernel(everybody)
        await asyncio.gather(*(one.leave() for one in everybody))
        return found

    def _compare_with_kernel(self, everybody: Sequence[Subscriber]) -> None:
        """Compare the bytes of the open connections: the proxies' count, and the kernel's."""
        networks = [one.network for one in everybody]
        counts = [network.counted_by_kernel() for network in networks]
        is_known = None not in counts
        kernel = sum(sum(count) for count in counts if count is not None)
        still_open = [one for network in networks for one in network.records if one.closed_at is None]
        ours = sum(record.bytes_up + record.bytes_down for record in still_open)
        everything = sum(network.bytes_up + network.bytes_down for network in networks)
        difference = round(100 * (kernel - ours) / ours, 3) if is_known and ours else None
        note = "" if is_known else "this kernel does not report it"
        self.check |= {
            "counted_by_proxies": Figure(everything, "B"),
            "of_open_connections": Figure(ours, "B"),
            "counted_by_kernel": Figure(kernel if is_known else None, "B", note),
            "difference": Figure(difference, "%", note),
        }

    async def _publish(
        self, targets: dict[str, tuple[Place, str]], count: int, progress: tuple[str, float, float]
    ) -> dict[str, list[float]]:
        """Publish to all at an even pace, one after the other. Returns when each message was sent."""
        start = self._loop.time() + 0.1
        apart_s = 1 / self.plan.rate_per_s

        async def one(index: int, place: Place, channel: str) -> list[float]:
            answers: list[asyncio.Task[Any]] = []
            sent: list[float] = []
            for number in range(1, count + 1):
                # Not all at one moment: they would wait for one another in this process, and add to latency.
                due = start + apart_s * (number - 1 + index / len(targets))
                await asyncio.sleep(max(0, due - self._loop.time()))
                sent.append(self._loop.time())
                body = message(number, int(sent[-1] * 1e6), self.plan.size_bytes)
                answers.append(self._loop.create_task(place.publisher.publish(channel, body)))
                if index == 0:
                    text, first, last = progress
                    self._progress(text, first + (last - first) * number / count)
            await asyncio.gather(*answers)
            return sent

        lists = await asyncio.gather(*(one(index, *target) for index, target in enumerate(targets.values())))
        return dict(zip(targets, lists, strict=True))

    async def _until(self, condition: Callable[[], bool], within_s: float) -> None:
        end = self._loop.time() + within_s
        while not condition() and self._loop.time() < end:  # noqa: ASYNC110 - dozens of subscribers, no hurry
            await asyncio.sleep(_LOOK_S)

    # -- the runs in which the link fails --------------------------------------------------------------------

    async def _faults(self, place: Place, groups: dict[str, Groups]) -> Faults:
        """Run both modes at once, after the steady run's last message: they share no channels or proxies."""
        plan = self.plan
        if not groups:
            return {}
        await self._all_sent.wait()
        count = max(1, round(plan.fault_seconds * plan.rate_per_s))
        runs = [(mode, kind) for mode in _MODES for kind in KINDS]
        targets = {f"{mode} {kind.name}": (place, self._channel(mode, kind)) for mode, kind in runs}
        publishing = self._loop.create_task(self._publish(targets, count, ("the link fails", 0.6, 0.9)))
        everybody = [one for mode in _MODES for one in _all(groups[mode])]
        try:
            await asyncio.sleep(0.1 + plan.before_s)
            failed_at = self._loop.time()
            _fail(groups)
            await asyncio.sleep(plan.cut_s)
            healed_at = self._loop.time()
            for one in everybody:
                one.network.heal()
            sent = await publishing
        finally:
            publishing.cancel()
        ours = [one for one in everybody if one.kind.transport is not None]
        self._progress("catching up", 0.92)
        limit_s = _REMOTE_FAULT_DRAIN_S if plan.url else _FAULT_DRAIN_S
        await self._until(lambda: all(len(one.numbers) == count for one in ours), limit_s)
        ended_at = self._loop.time()

        def of(mode: str, kind: Kind) -> Fault:
            lives = [Life(one.arrivals, one.noticed) for one in groups[mode][kind.name]]
            return fault_of(lives, sent[f"{mode} {kind.name}"], failed_at, healed_at, ended_at)

        return {mode: {kind.name: of(mode, kind) for kind in KINDS} for mode in _MODES}

    # -- figures ---------------------------------------------------------------------------------------------

    def _result(self, kind: Kind, steady: Steady, idle: dict[str, Figure], faults: Faults) -> Result:
        plan, first = self.plan, steady.first
        news = news_of(steady.lives, len(steady.sent))
        delivered = int(news["delivered"].value or 0)
        why = "the server is not ours" if plan.url else "this system does not report it"
        why_no_cpu = f"not measured: {why}" if steady.cpu_ns is None else ""
        counts = (steady.setup, steady.stream, delivered, len(steady.lives), plan.size_bytes)
        middle = max(steady.sent[0], (steady.sent[0] + steady.sent[-1] - _LANE_S) / 2)
        conversations = list(first.meter.conversations.values())
        return Result(
            label=kind.label,
            news=news,
            cost=cost_of(*counts, steady.cpu_ns, why_no_cpu),
            setup={"up": parts_of(steady.setup.up), "down": parts_of(steady.setup.down)},
            stream={"up": parts_of(steady.stream.up), "down": parts_of(steady.stream.down)},
            idle=idle,
            lane=lane_of(first.meter.passed, first.arrivals, middle, middle + _LANE_S),
            # Recorded bytes would show a token, masked or not.
            trace=shown(conversations[0].pieces) if conversations and not plan.token else [],
            **{mode: by_kind[kind.name] for mode, by_kind in faults.items()},
        )


def _fail(groups: dict[str, Groups]) -> None:
    for one in _all(groups["cut"]):
        one.network.refuse()
        one.network.reset()
    for one in _all(groups["half_open"]):
        one.network.lose()
        one.network.black_hole()


def _all(groups: Groups) -> list[Subscriber]:
    return [one for group in groups.values() for one in group]


def _minus(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one - other
