"""Coroutine tests run in an event loop of their own; with the fixture ``loop_factory``, once in each kind
there is."""

import asyncio
import importlib.util
import inspect
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from heartwire.testing.stores import PostgresServer, ValkeyServer, run_postgres, run_valkey

# A shared machine's pauses are no failures.
settings.register_profile("heartwire", deadline=None)
settings.load_profile("heartwire")

# A script's background jobs ignore Ctrl-C, and the programs that tests start and interrupt would inherit
# that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_LOOPS = ["asyncio"] + (["uvloop"] if importlib.util.find_spec("uvloop") else [])


@pytest.fixture(params=_LOOPS)
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """How to make the loop that the test runs in."""
    if request.param == "uvloop":
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
        return factory
    return asyncio.new_event_loop


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A Valkey server for all tests that have a prefix of their own in it."""
    with asyncio.Runner() as runner:
        running = run_valkey()
        yield runner.run(running.__aenter__())
        runner.run(running.__aexit__(None, None, None))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test to its end."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    loop_factory: Any = pyfuncitem.funcargs.get("loop_factory")
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests that have a schema of their own in it."""
    with run_postgres("synchronous_commit=off") as server:
        yield server
