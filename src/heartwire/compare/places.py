"""The servers of a comparison, each with a client that publishes to it, and the CPU time they use."""

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from heartwire.client.client import Client
from heartwire.client.connecting import connect
from heartwire.client.options import Options
from heartwire.client.outputs import Closed
from heartwire.compare.plan import KINDS, Plan
from heartwire.errors import ConfigError, HeartwireError
from heartwire.testing.server import ServerProcess, run_server

__all__ = ["Place", "Places", "cpu_ns", "open_places"]

_REACH_S: Final = 10.0


class Place(NamedTuple):
    """A server, and a client that publishes to it, past all proxies. ``pid``: 0 where it is not ours."""

    url: str
    pid: int
    publisher: Client


class Places(NamedTuple):
    """A server for each transport; one without subscribers, if ours; one for idle and failing connections."""

    by_transport: dict[str, Place]
    empty: Place | None
    other: Place


async def open_places(plan: Plan, stack: AsyncExitStack) -> Places:
    """Start all servers, or connect to that of the plan. The stack ends them. Raises `ConfigError`."""
    names = [kind.name for kind in KINDS]
    if plan.url:
        await _reach(plan.url)
        place = Place(plan.url, 0, await _publisher(plan, plan.url, stack))
        return Places(dict.fromkeys(names, place), None, place)
    interval_s, timeout_s = f"{plan.ping_interval_s:g}", f"{plan.pong_timeout_s:g}"
    short = ("--ping-interval-s", interval_s, "--pong-timeout-s", timeout_s)
    starting = [_start(plan, (), stack) for _ in (*names, "empty")]
    # All have to return, with what they raise, so that the stack ends those that have started.
    started = await asyncio.gather(*starting, _start(plan, short, stack), return_exceptions=True)
    for one in started:
        if isinstance(one, BaseException):
            raise one
    *own, empty, other = (one for one in started if isinstance(one, Place))
    return Places(dict(zip(names, own, strict=True)), empty, other)


async def _start(plan: Plan, arguments: Sequence[str], stack: AsyncExitStack) -> Place:
    context = run_server(*arguments)
    starting = asyncio.ensure_future(asyncio.to_thread(context.__enter__))
    try:
        server: ServerProcess = await asyncio.shield(starting)
    except RuntimeError as error:
        fix = f"without one it starts servers of its own, but: {str(error).strip().splitlines()[-1]}"
        raise ConfigError("URL", "", fix) from error
    except asyncio.CancelledError:
        await starting  # it has begun: end it too
        await asyncio.to_thread(context.__exit__, None, None, None)
        raise
    stack.push(context)
    return Place(server.url, server.pid, await _publisher(plan, server.url, stack))


async def _publisher(plan: Plan, url: str, stack: AsyncExitStack) -> Client:
    options = Options() if plan.url else Options(transports=("websocket",))
    client = connect(url, token=plan.token, options=options)
    last = "it does not answer"

    def closed(event: Closed) -> None:
        nonlocal last
        last = event.reason or str(event.code)

    client.on("close", closed)
    client.on("error", lambda error: None)
    client.start()
    stack.push_async_callback(client.close)
    try:
        await asyncio.wait_for(client.wait_online(), _REACH_S)
    except (HeartwireError, TimeoutError):
        fix = f"no Heartwire server that lets us in: {last}; is it one, and is --token right?"
        raise ConfigError("URL", url, fix) from None
    return client


async def _reach(url: str) -> None:
    """Raise `ConfigError` where nothing listens."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(parts.hostname, port), _REACH_S)
    except OSError as error:
        why = error.strerror or str(error) or f"no answer within {_REACH_S:g} s"
        fix = f"cannot be reached: {why}; start it with `heartwire serve`, or leave the URL out"
        raise ConfigError("URL", url, fix) from None
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def cpu_ns(place: Place | None) -> int | None:
    """The CPU time of all threads of a server. ``None`` where it is not ours, and but on Linux."""
    if place is None or not place.pid:
        return None
    try:
        files = Path(f"/proc/{place.pid}/task").glob("*/schedstat")
        return sum(int(file.read_text().split()[0]) for file in files) or None
    except (OSError, ValueError, IndexError):
        return None
