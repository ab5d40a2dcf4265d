"""Signals that end the process are heard, and handed on."""

import asyncio
import os
import signal
from types import FrameType

import pytest

from heartwire.hub.signals import heard


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_is_acted_on_and_handed_to_the_handler_before(number: signal.Signals) -> None:
    acted = asyncio.Event()
    handed: list[tuple[int, bool]] = []

    def before(number: int, frame: FrameType | None) -> None:
        handed.append((number, frame is not None))

    old = signal.signal(number, before)
    try:
        with heard(asyncio.get_running_loop(), acted.set):
            signal.raise_signal(number)
            await asyncio.wait_for(acted.wait(), 10)
        assert handed == [(number, True)]
        assert signal.getsignal(number) is before
    finally:
        signal.signal(number, old)


@pytest.mark.parametrize(("before", "raised"), [(signal.SIG_DFL, [signal.SIGTERM]), (signal.SIG_IGN, [])])
async def test_a_signal_that_nobody_handled_ends_the_process_unless_it_was_ignored(
    before: signal.Handlers, raised: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", again.append)
    acted = asyncio.Event()
    old = signal.signal(signal.SIGTERM, before)
    try:
        with heard(asyncio.get_running_loop(), acted.set):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(acted.wait(), 10)
        assert again == raised
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, old)


async def test_off_the_main_thread_no_handler_is_changed() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def enter(loop: asyncio.AbstractEventLoop) -> bool:
        with heard(loop, lambda: None):
            return signal.getsignal(signal.SIGTERM) is before

    def run() -> bool:
        async def main() -> bool:
            return enter(asyncio.get_running_loop())

        return asyncio.run(main())

    assert await asyncio.to_thread(run)
