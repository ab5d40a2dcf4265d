"""A thousand clients of one process, and a server that goes away and comes back."""

import asyncio
import resource
import signal
import time
from collections import Counter

import pytest

from heartwire import Options, Received
from heartwire.client.client import Client
from heartwire.testing import FaultyNetwork, run_server
from tests.integration.client.tools import client_of, say, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CLIENTS = 1000
PER_S = 150


@pytest.fixture(autouse=True)
def _files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8 * CLIENTS
    if soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip(f"{hard} open files are allowed here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Member:
    """One of the crowd: when it came online, and what it got."""

    def __init__(self, client: Client, channel: str, moments: list[tuple[float, str]]) -> None:
        self.client = client
        self.got: list[Received] = []
        self.attempts: list[float] = []
        client.on("state", lambda change: moments.append((time.monotonic(), change.state)))
        client.on(
            "state",
            lambda change: self.attempts.append(time.monotonic()) if change.state == "connecting" else None,
        )
        client.on("close", lambda closed: None)
        client.start()
        client.subscribe(channel, self.got.append)


def by_second(moments: list[tuple[float, str]], state: str, since: float) -> list[int]:
    counts = Counter(int(at - since) for at, what in moments if what == state and at >= since)
    return [counts[second] for second in range(max(counts, default=-1) + 1)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_thousand_come_back_in_turns(number: signal.Signals, channel: str) -> None:
    """No second has more of them let in than the server is told to let in, whether it could say goodbye or
    not."""
    options = Options(
        backoff_base_s=0.5, backoff_cap_s=4, attempt_burst=5, attempt_rate_per_s=0.5, upgrade_after_s=600
    )
    config = f"connects_per_s = {PER_S}\nconnects_burst = {PER_S}"
    with run_server(engine="sqlite:///crowd.db", config=config) as server:
        moments: list[tuple[float, str]] = []
        crowd = [
            Member(client_of(server.url, "websocket", options), channel, moments) for _ in range(CLIENTS)
        ]
        await until(
            lambda: all(one.client.state == "online" for one in crowd),
            60,
            lambda: Counter(one.client.state for one in crowd),
        )
        writer = client_of(server.url, "longpoll")
        writer.start()
        positions = [await writer.publish(channel, 0)]
        await until(lambda: all(one.got for one in crowd), 20)
        await asyncio.to_thread(server.stop, number, within_s=30)
        gone = time.monotonic()
        await asyncio.to_thread(server.start)
        up = time.monotonic()
        for value in range(1, 6):
            positions += [await writer.publish(channel, value)]
        await until(
            lambda: all(one.client.state == "online" for one in crowd),
            60,
            lambda: Counter(one.client.state for one in crowd),
        )
        back_s = time.monotonic() - up
        await until(
            lambda: all(len(one.got) == 6 for one in crowd),
            20,
            lambda: Counter(len(one.got) for one in crowd),
        )
        assert all([received.position for received in one.got] == positions for one in crowd)
        online, attempts = by_second(moments, "online", up), by_second(moments, "connecting", gone)
        say(
            f"{number.name}: {CLIENTS} clients back {back_s:.1f} s after the server; by second {online},"
            f" attempts {attempts}"
        )
        assert max(online) <= 2 * PER_S + 20  # those at once, and those of a second
        for one in crowd:
            assert_paced([at for at in one.attempts if at >= gone - 5], options)
        await asyncio.gather(*(one.client.close() for one in (*crowd,)), writer.close())


def assert_paced(attempts: list[float], options: Options) -> None:
    """Never more than the bucket holds."""
    for first in range(len(attempts)):
        for last in range(first, len(attempts)):
            allowed = options.attempt_burst + (attempts[last] - attempts[first]) * options.attempt_rate_per_s
            assert last - first + 1 <= allowed + 1


async def test_a_client_without_a_server_does_not_hammer() -> None:
    """Connection refused, for three seconds: no more attempts than the bucket allows."""
    options = Options(backoff_base_s=0.01, backoff_cap_s=0.01, attempt_burst=3, attempt_rate_per_s=2)
    with run_server() as server:
        async with FaultyNetwork.to(server.url) as network:
            network.answer_502()
            moments: list[tuple[float, str]] = []
            member = Member(client_of(network.url, "", options), "a", moments)
            began = time.monotonic()
            await until(lambda: time.monotonic() - began > 3)
            await member.client.close()
            assert_paced(member.attempts, options)
            assert network.accepted <= 3 + 3 * 2 + 1
