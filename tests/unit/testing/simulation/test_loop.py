"""Time that passes when it is told to."""

import asyncio
import time

import pytest

from heartwire.testing import VirtualLoop


def test_hours_pass_in_no_time_and_in_order() -> None:
    loop = VirtualLoop()
    begin, heard = loop.time(), []

    async def say(after_s: float) -> None:
        await asyncio.sleep(after_s)
        heard.append(loop.time() - begin)

    for after_s in (7200, 0.5, 3600):
        loop.create_task(say(after_s))
    before = time.monotonic()
    loop.run_for(7000)
    assert heard == [0.5, 3600]
    loop.run_until_idle(within_s=10_000)
    assert (heard, loop.time() - begin) == ([0.5, 3600, 7200], 7200)
    assert time.monotonic() - before < 1
    loop.discard()


def test_run_until_idle_is_bounded() -> None:
    loop = VirtualLoop()
    begin = loop.time()

    async def tick() -> None:
        for _ in range(1000):
            await asyncio.sleep(1)

    task = loop.create_task(tick())
    loop.run_until_idle(within_s=59.5)
    assert loop.time() - begin == 59.5
    assert [timer.cancelled() for timer in loop.timers] == [False]
    loop.discard()
    assert task.cancelled()


def test_waiting_for_ever_is_an_error() -> None:
    loop = VirtualLoop()
    with pytest.raises(RuntimeError, match="would wait for ever"):
        loop.run_until_complete(loop.create_future())
    loop.discard()


def test_going_round_in_circles_is_an_error() -> None:
    loop = VirtualLoop()

    def again() -> None:
        loop.call_soon(again)

    again()
    with pytest.raises(RuntimeError, match="time stands still"):
        loop.run_for(1)
    loop._ready.clear()  # type: ignore[attr-defined]
    loop.close()


def test_faults_of_callbacks_are_kept() -> None:
    loop = VirtualLoop()
    loop.call_later(1, lambda: 1 / 0)
    loop.run_for(2)
    assert [type(fault) for fault in loop.faults] == [ZeroDivisionError]
    loop.discard()


def test_there_are_no_threads() -> None:
    loop = VirtualLoop()
    with pytest.raises(RuntimeError, match="no threads"):
        loop.run_in_executor(None, time.sleep, 0)
    loop.discard()
