"""The well-behaved client: whatever others send, it publishes and receives within a second, on every
transport."""

import asyncio
import http.client
import itertools
import json
import os
import time
from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.client import connect as connect_socket

import heartwire
from tools.fuzz.corpus import TOKEN, request

__all__ = ["Internals", "internals", "witness"]

WITHIN_S: Final = 1.0
_AT_MOST_S: Final = 20.0
"""A machine that is busy with something else gets more time, three times, before it is the server's fault."""

_CHANNEL: Final = "witness"
_numbers = itertools.count(1)

Internals = dict[str, int]


async def witness(port: int) -> tuple[list[str], float]:
    """Check every transport at once. Returns what is wrong, and the seconds that the slowest of them took."""
    checks: dict[str, Callable[[int], Any]] = {
        "POST and long poll": _polls,
        "event stream": _events,
        "plain WebSocket": _plain_socket,
        **{f"client over {name}": _over(name) for name in ("websocket", "sse", "longpoll", "poll")},
    }
    results = await asyncio.gather(*(_timed(name, check, port) for name, check in checks.items()))
    return [problem for problem, _ in results if problem], max(took_s for _, took_s in results)


async def _timed(name: str, check: Callable[[int], Any], port: int) -> tuple[str, float]:
    problem = ""
    for _ in range(3):
        began = time.monotonic()
        try:
            async with asyncio.timeout(_AT_MOST_S):
                await check(port)
        except Exception as error:  # whatever it is, the server is to blame until it works
            problem = f"{name}: {error!r}"
            continue
        took_s = time.monotonic() - began
        if took_s <= _within_s():
            return "", took_s
        problem = f"{name}: {took_s:.2f} s"
    return problem, time.monotonic() - began


def _within_s() -> float:
    """On a machine where others have most of the time, it takes as much longer."""
    return WITHIN_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _message() -> str:
    return f"well-behaved {next(_numbers)}"


# -- the plain dialect ---------------------------------------------------------------------------------------


async def _request(port: int, method: str, target: str, body: str | None = None, **headers: str) -> Any:
    def ask() -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_AT_MOST_S)
        try:
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            assert answer.status == 200, (answer.status, answer.read())
            return json.loads(answer.read())
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def _publish(port: int, message: str) -> str:
    """Publish, and return the position."""
    target = f"/channels/{_CHANNEL}"
    answer = await _request(port, "POST", target, message, Authorization=f"Bearer {TOKEN}")
    position: str = answer["position"]
    return position


async def _polls(port: int) -> None:
    start, message = await _publish(port, _message()), _message()
    await _publish(port, message)
    page = await _request(port, "GET", f"/channels/{_CHANNEL}?wait=5&since={start}&token={TOKEN}")
    assert message in [one["data"] for one in page["publications"]], page


async def _plain_socket(port: int) -> None:
    url, message = f"ws://127.0.0.1:{port}/channels/{_CHANNEL}?token={TOKEN}", _message()
    async with connect_socket(url, proxy=None, compression=None) as client:
        await client.send(message)
        async for got in client:
            if got == message:
                return
    raise AssertionError("the socket ended")


async def _events(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request("GET", f"/channels/{_CHANNEL}?token={TOKEN}", Accept="text/event-stream"))
        await reader.readuntil(b"\nid: ")
        message = _message()
        await _publish(port, message)
        await reader.readuntil(f"data: {message}\n".encode())
    finally:
        writer.close()
        await writer.wait_closed()


# -- our client ----------------------------------------------------------------------------------------------


def _over(transport: Any) -> Callable[[int], Any]:
    async def check(port: int) -> None:
        message = _message()
        async with (
            heartwire.connect(
                f"http://127.0.0.1:{port}",
                token=TOKEN,
                transports=(transport,),
                options=heartwire.Options(poll_interval_s=0.1),
            ) as client,
            client.subscribe(_CHANNEL) as messages,
        ):
            await client.publish(_CHANNEL, message)
            async for got in messages:
                if got.data == message:
                    return

    return check


async def internals(port: int) -> Internals:
    """What the server holds: tasks, connections, subscriptions; this question's own are among them."""
    command = b'{"id":1,"rpc":{"method":"internals"}}'
    connect = json.dumps({"id": 2, "connect": {"token": TOKEN}}).encode()
    text = (connect + b"\n" + command).decode()

    def ask() -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_AT_MOST_S)
        try:
            connection.request("POST", "/connection/commands", text, {"Content-Type": "application/json"})
            return connection.getresponse().read()
        finally:
            connection.close()

    lines = [json.loads(line) for line in (await asyncio.to_thread(ask)).splitlines()]
    found: Internals = next(line["rpc"]["data"] for line in lines if "rpc" in line)
    return found
