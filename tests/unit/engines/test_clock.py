"""The clock of ages: a wall clock that jumps changes no age, no key, no lease, and no order of times."""

import logging
import time
from pathlib import Path

import pytest

from heartwire.core.waiting import settled
from heartwire.engines.clock import ForwardClock
from heartwire.engines.contract import Engine, Feed, Retention
from heartwire.engines.memory import MemoryEngine
from heartwire.engines.sqlite import SqliteEngine
from heartwire.testing import FakeClock
from heartwire.types import EARLIEST, Channel, Member, Message

A = Channel("a")
KEEP = Retention(100, 600)
HOUR_S = 3600


class Machine:
    """A machine's clocks: real time, what its wall clock is wrong by, and how long it slept."""

    def __init__(self) -> None:
        self.real = FakeClock()
        self.wrong_s = self.slept_s = 0.0
        self.clock = ForwardClock(
            lambda: self.real() + self.wrong_s, lambda: self.real() - self.slept_s, lambda: self.slept_s
        )

    def passes(self, seconds: int) -> None:
        """Let time pass, and look at the clock each second."""
        for _ in range(seconds):
            self.real.advance(1)
            before = self.clock()
            assert before <= self.clock()

    @property
    def error_s(self) -> float:
        return self.clock() - self.real()


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S, 1e9])
def test_jump_of_the_wall_clock_is_not_followed_but_approached_by_a_hundredth(jump_s: float) -> None:
    machine = Machine()
    machine.passes(10)
    machine.wrong_s = jump_s
    machine.passes(100)
    assert 0.9 <= abs(machine.error_s) <= 1
    assert machine.error_s * jump_s > 0
    machine.wrong_s = 0
    machine.passes(300)
    assert machine.error_s == pytest.approx(0, abs=1e-6)


def test_jump_is_logged_once_and_the_next_one_again(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    for jump_s in (HOUR_S, 0, -HOUR_S):
        machine.wrong_s = jump_s
        with caplog.at_level(logging.WARNING, "heartwire"):
            machine.passes(150)
    told = [record.getMessage() for record in caplog.records]
    assert [line[:38] for line in told] == [
        "the wall clock has jumped by +3600 s: ",
        "the wall clock has jumped by -3600 s: ",
    ]


def test_clock_goes_forward_between_looks_and_after_long_rests() -> None:
    machine = Machine()
    machine.wrong_s = -HOUR_S
    last = machine.clock()
    for step in (0.999, 0.002, 0.5, 0.6, 5000, 0.0001, 1.0, 0.3):
        machine.real.advance(step)
        assert last < machine.clock() <= last + step * 1.01 + 1e-6
        last = machine.clock()


def test_time_asleep_counts_at_once() -> None:
    machine = Machine()
    machine.passes(2)
    machine.real.advance(8 * HOUR_S)
    machine.slept_s += 8 * HOUR_S
    machine.passes(2)
    assert machine.error_s == pytest.approx(0, abs=1e-3)


def test_time_asleep_is_what_the_kernel_counts_and_monotonic_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, slept_s = FakeClock(), 0.0
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr(time, "clock_gettime", lambda kind: time.monotonic() + slept_s if kind == 7 else 0.0)
    clock = ForwardClock(lambda: real() + slept_s, real)
    before = clock()
    slept_s = 8 * HOUR_S
    real.advance(2)
    assert clock() - before == pytest.approx(8 * HOUR_S + 2, abs=1)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
async def test_jump_for_a_moment_loses_no_key_no_history_and_no_lease(
    kind: str, jump_s: float, tmp_path: Path
) -> None:
    machine = Machine()
    clock = machine.clock
    engine: Engine = (
        MemoryEngine(clock=clock) if kind == "memory" else SqliteEngine(tmp_path / "s", clock=clock)
    )
    await engine.start(Feed())
    try:
        first = await settled(engine.append(A, Message(b"x"), KEEP, key="k"))
        engine.lease(A, Member("c-1"), 35)
        machine.passes(5)
        machine.wrong_s = jump_s
        machine.passes(5)
        await engine.sweep(lambda channel: KEEP)
        assert await settled(engine.append(A, Message(b"x"), KEEP, key="k")) == first
        assert await settled(engine.append(A, Message(b"y"), KEEP)) == (first.epoch, 2)
        assert [member.client for member in await engine.members(A)] == ["c-1"]
        machine.wrong_s = 0
        machine.passes(5)
        await settled(engine.append(A, Message(b"z"), KEEP))
        kept = (await settled(engine.read(A, EARLIEST, KEEP, limit=9, max_bytes=99))).publications
        assert [one.data for one in kept] == [b"x", b"y", b"z"]
        times = [one.time_ms for one in kept]
        assert times == sorted(times)
        machine.passes(40)
        assert await engine.members(A) == []
    finally:
        await engine.stop()


def test_engines_and_the_hub_share_one_clock_unless_told_otherwise() -> None:
    from heartwire import Hub
    from heartwire.engines.clock import forward

    hub = Hub("memory://")
    assert hub.node.clocks.forward is forward
    assert hub.node.engine._clock is forward  # type: ignore[attr-defined]
