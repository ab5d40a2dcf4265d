"""The contract of `heartwire.engines.contract.Engine` as a suite for any engine, ours or yours; and that of
`SharedEngine`, for several nodes on one store.

Each check is one promise of the contract. A check asks for nothing that an engine on another machine could
not give: it awaits answers and reads time from the clock it was handed. Of one engine's checks none lets real
time pass; nodes hear of each other in their own time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, TypeVar

from heartwire.engines.contract import Clock, Engine, Feed, SharedEngine
from heartwire.testing.clock import FakeClock
from heartwire.testing.engines.appending import APPENDING
from heartwire.testing.engines.bench import Bench, Check
from heartwire.testing.engines.ending import DURABLE, ENDING
from heartwire.testing.engines.nodes import Kill, Nodes
from heartwire.testing.engines.reading import READING
from heartwire.testing.engines.records import DURABLE_RECORDS, RECORDS
from heartwire.testing.engines.shared_records import KILLED_RECORDS, SHARED_RECORDS
from heartwire.testing.engines.sharing import KILLING, SHARING
from heartwire.testing.promises import PromiseBroken

__all__ = [
    "CHECKS",
    "DURABLE_CHECKS",
    "KILLING_CHECKS",
    "SHARED_CHECKS",
    "check_engine",
    "check_shared_engine",
]

SharedCheck = Callable[[Nodes], Awaitable[None]]
"""Raises `PromiseBroken`. Its name is the promise."""

EngineT = TypeVar("EngineT", bound=Engine)

ANSWER_S: Final = 30
"""How long a whole check may take: an engine that does not answer fails instead of hanging the suite."""

CHECKS: Final[tuple[Check, ...]] = (*APPENDING, *READING, *ENDING, *RECORDS)
"""The promises of every engine."""

DURABLE_CHECKS: Final[tuple[Check, ...]] = (*DURABLE, *DURABLE_RECORDS)
"""The promises of an engine whose streams outlive it."""

SHARED_CHECKS: Final[tuple[SharedCheck, ...]] = (*SHARING, *SHARED_RECORDS)
"""The promises of every shared engine, besides."""

KILLING_CHECKS: Final[tuple[SharedCheck, ...]] = (*KILLING, *KILLED_RECORDS)
"""Those for nodes that are killed."""


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
            await _run(check, bench)
        finally:
            await bench.engine.stop()


async def check_shared_engine(
    store: Callable[[Clock], AbstractAsyncContextManager[Callable[[], SharedEngine]]],
    *,
    kill: Kill | None = None,
    checks: Sequence[SharedCheck] | None = None,
) -> None:
    """Run the checks for several nodes on one store, each on an empty store.

    Args:
        store: a context manager that has an empty store as long as it lasts, and gives a function that makes
            engines on it, not started. Time that they read is from the given clock.
        kill: ends an engine as if its process was killed; for the checks that need it.
        checks: default: `SHARED_CHECKS`, and with ``kill`` also `KILLING_CHECKS`.
    Raises:
        PromiseBroken: at the first promise that is not kept.
    """
    if checks is None:
        checks = SHARED_CHECKS + (KILLING_CHECKS if kill is not None else ())
    for check in checks:
        clock = FakeClock()
        async with store(clock) as make:
            nodes = Nodes(make, clock, kill)
            try:
                await _run(check, nodes)
            finally:
                await nodes.stop()


BenchT = TypeVar("BenchT")


async def _run(check: Callable[[BenchT], Awaitable[None]], bench: BenchT) -> None:
    try:
        async with asyncio.timeout(ANSWER_S):
            await check(bench)
    except TimeoutError:
        name = getattr(check, "__name__", check)
        raise PromiseBroken(f"{name}: no answer within {ANSWER_S} s") from None
