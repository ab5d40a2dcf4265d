"""Helpers of the tests of the Python client."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import pytest

import heartwire
from heartwire import Options, Received
from heartwire.client.client import Client
from heartwire.client.options import TRANSPORTS
from heartwire.client.outputs import Closed, StateChanged

WITHIN_S: Final = 10.0

FAST: Final = Options(
    backoff_base_s=0.02,
    backoff_cap_s=0.1,
    attempt_burst=1000,
    attempt_rate_per_s=1000,
    open_timeout_s=1,
    poll_interval_s=0.05,
    close_timeout_s=2,
)
"""Comes back at once."""

each_transport = pytest.mark.parametrize("transport", TRANSPORTS)


async def until(condition: Callable[[], Any], within_s: float = WITHIN_S, what: object = None) -> None:
    """Wait until it is so. Looked at 200 times a second: a client has no one place where everything that
    changes is told."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not condition():
        if loop.time() > deadline:
            raise TimeoutError(f"not so within {within_s} s: {what() if callable(what) else what}")
        await asyncio.sleep(0.005)


class Story:
    """What a client told of itself, in order."""

    def __init__(self, client: Client) -> None:
        self.states: list[str] = []
        self.reasons: list[str] = []
        self.opened: list[str] = []
        self.closed: list[Closed] = []
        self.notes: list[str] = []
        self.gaps: list[Any] = []
        self.errors: list[Any] = []
        client.on("state", self._state)
        client.on("open", self.opened.append)
        client.on("close", self.closed.append)
        client.on("note", lambda note: self.notes.append(str(note)))
        client.on("gap", self.gaps.append)
        client.on("error", self.errors.append)

    def _state(self, change: StateChanged) -> None:
        self.states.append(change.state)
        self.reasons.append(change.reason)


async def take(
    subscription: AsyncIterator[Received], count: int, within_s: float = WITHIN_S
) -> list[Received]:
    """The next so many."""
    async with asyncio.timeout(within_s):
        return [await anext(subscription) for _ in range(count)]


def say(text: str) -> None:
    """For those who look: ``pytest -s``."""
    sys.stdout.write(f"\n{text}")


def data(received: list[Received]) -> list[Any]:
    return [one.data for one in received]


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Holds the client to leaving no task and no socket behind; the server of the test has to be up
    before."""
    tasks, sockets = asyncio.all_tasks(), _sockets()
    yield
    left = [task for task in asyncio.all_tasks() - tasks if "heartwire/client" in _file_of(task)]
    assert left == []
    await until(lambda: _sockets() <= sockets, what=lambda: f"{_sockets()} sockets, {sockets} before")


def _sockets() -> int:
    return sum(1 for link in _links() if link.startswith("socket:"))


def _links() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/self/fd/{name}")


def client_of(url: str, transport: str = "", options: Options = FAST, **arguments: Any) -> Client:
    """A client that comes back fast, on one transport or (``""``) on the ladder."""
    transports: Any = (transport,) if transport else None
    return heartwire.connect(url, transports=transports, options=options, **arguments)


def _file_of(task: "asyncio.Task[Any]") -> str:
    return str(task.get_coro().cr_code.co_filename)  # type: ignore[union-attr]
