"""The contract of `heartwire.engines.contract.Engine` as a suite for any engine, ours or yours.

Each check is one promise of the contract. A check asks for nothing that an engine on another machine could
not give: it awaits answers, reads time from the clock it was handed, and lets no real time pass.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from heartwire.engines.contract import Clock, Engine, Feed
from heartwire.testing.clock import FakeClock
from heartwire.testing.engines.appending import APPENDING
from heartwire.testing.engines.bench import Bench, Check
from heartwire.testing.engines.ending import DURABLE_CHECKS, ENDING
from heartwire.testing.engines.reading import READING
from heartwire.testing.promises import PromiseBroken

__all__ = ["CHECKS", "DURABLE_CHECKS", "check_engine"]

EngineT = TypeVar("EngineT", bound=Engine)

ANSWER_S: Final = 30
"""How long a whole check may take: an engine that does not answer fails instead of hanging the suite."""

CHECKS: Final[tuple[Check, ...]] = (*APPENDING, *READING, *ENDING)
"""The promises of every engine."""


async def check_engine(
    factory: Callable[[Clock], EngineT],
    *,
    reopen: Callable[[EngineT, Clock], EngineT] | None = None,
    checks: Sequence[Check] | None = None,
) -> None:
    """Run the checks of the contract, each on a fresh engine.

    Args:
        factory: makes an engine with an empty store, not started, that reads time from the given clock.
        reopen: makes another engine on the store of a stopped one; for engines whose streams outlive them.
        checks: default: `CHECKS`, and with ``reopen`` also `DURABLE_CHECKS`.
    Raises:
        PromiseBroken: at the first promise that is not kept.
    """
    if checks is None:
        checks = CHECKS + (DURABLE_CHECKS if reopen is not None else ())
    for check in checks:
        clock = FakeClock()
        engine = factory(clock)
        bench = Bench(engine, clock, None if reopen is None else partial(reopen, engine, clock))
        await engine.start(Feed(bench.notify))
        try:
            async with asyncio.timeout(ANSWER_S):
                await check(bench)
        except TimeoutError:
            name = getattr(check, "__name__", check)
            raise PromiseBroken(f"{name}: no answer within {ANSWER_S} s") from None
        finally:
            await bench.engine.stop()
