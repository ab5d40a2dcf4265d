"""The contract of `heartwire.engines.contract.Engine` as a suite that any engine can be put through, ours or
yours.

Each check is a promise of the contract, told when it is broken. A check asks for nothing an engine on another
machine could not give: it awaits answers, reads time from the clock it was handed, and lets no real time
pass.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from heartwire.engines.contract import Clock, Engine
from heartwire.testing.clock import FakeClock
from heartwire.testing.engines.appending import APPENDING
from heartwire.testing.engines.bench import Bench, Check, PromiseBroken
from heartwire.testing.engines.ending import DURABLE_CHECKS, ENDING
from heartwire.testing.engines.reading import READING

__all__ = ["CHECKS", "DURABLE_CHECKS", "check_engine"]

EngineT = TypeVar("EngineT", bound=Engine)

ANSWER_S: Final = 30
"""How long a whole check may take; an engine that does not answer at all is told so instead of waited for."""

CHECKS: Final[tuple[Check, ...]] = (*APPENDING, *READING, *ENDING)
"""What every engine promises."""


async def check_engine(
    factory: Callable[[Clock], EngineT],
    *,
    reopen: Callable[[EngineT, Clock], EngineT] | None = None,
    checks: Sequence[Check] | None = None,
) -> None:
    """Put an engine through the contract, each check on a fresh one.

    Args:
        factory: makes an engine with an empty store, not started, that reads the time from the given clock.
        reopen: makes another engine on the store of a stopped one; for engines whose streams outlive them.
        checks: which checks; default: `CHECKS`, and with ``reopen`` also `DURABLE_CHECKS`.
    Raises:
        PromiseBroken: at the first promise that is not kept.
    """
    if checks is None:
        checks = CHECKS + (DURABLE_CHECKS if reopen is not None else ())
    for check in checks:
        clock = FakeClock()
        engine = factory(clock)
        again = None if reopen is None else _again(reopen, engine, clock)
        bench = Bench(engine, clock, again)
        await engine.start(bench.notify)
        try:
            async with asyncio.timeout(ANSWER_S):
                await check(bench)
        except TimeoutError:
            raise PromiseBroken(f"{_name(check)}: no answer within {ANSWER_S} s") from None
        finally:
            await bench.engine.stop()


def _again(
    reopen: Callable[[EngineT, Clock], EngineT], engine: EngineT, clock: Clock
) -> Callable[[], Engine]:
    return lambda: reopen(engine, clock)


def _name(check: Check) -> str:
    return getattr(check, "__name__", repr(check))
