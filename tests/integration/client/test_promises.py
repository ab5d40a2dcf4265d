"""What the client promises, with processes that are killed and networks that fail: nothing lost, doubled or
swapped, and every publish that was answered applied once."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from heartwire import EARLIEST, Options, Received
from heartwire.client.client import Client
from heartwire.client.options import TRANSPORTS
from heartwire.testing import FaultyNetwork, ServerProcess, run_server
from tests.integration.client.tools import FAST, Story, client_of, data, each_transport, say, until

pytestmark = pytest.mark.slow

SRC = Path(__file__).parents[3] / "src"


class Publisher:
    """Publishes 0, 1, 2 ..., some at a time, until it is told to stop; each is answered once, in order."""

    def __init__(self, client: Client, channel: str, name: str = "p", *, at_a_time: int = 8) -> None:
        self.positions: list[Any] = []
        self.is_told_to_stop = False
        self.name = name
        self._client = client
        self._channel = channel
        self._at_a_time = at_a_time
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        self.is_told_to_stop = True
        async with asyncio.timeout(30):
            await self._task

    async def _run(self) -> None:
        number = 0
        pending: list[asyncio.Task[Any]] = []
        while pending or not self.is_told_to_stop:
            while len(pending) < self._at_a_time and not self.is_told_to_stop:
                pending.append(
                    asyncio.create_task(self._client.publish(self._channel, f"{self.name} {number}"))
                )
                number += 1
            self.positions.append(await pending.pop(0))


class Reader:
    """Follows a channel and keeps what came."""

    def __init__(self, client: Client, channel: str, *, is_iterating: bool = False) -> None:
        self.got: list[Received] = []
        self.client = client
        self.story = Story(client)
        if is_iterating:
            self._task = asyncio.ensure_future(self._iterate(channel))
        else:
            client.subscribe(channel, self.got.append, since=EARLIEST)

    async def _iterate(self, channel: str) -> None:
        async for received in self.client.subscribe(channel, since=EARLIEST):
            self.got.append(received)


def check(readers: list[Reader], publishers: list[Publisher]) -> None:
    """Everything that was answered came once, at the position that was answered, and in the order of its
    publisher."""
    answered = {
        str(position): f"{one.name} {number}"
        for one in publishers
        for number, position in enumerate(one.positions)
    }
    assert len(answered) == sum(len(one.positions) for one in publishers), "two publishes got one position"
    for reader in readers:
        assert reader.story.gaps == []
        offsets = [one.position.offset for one in reader.got if one.position]
        assert offsets == list(range(1, len(offsets) + 1))
        assert {str(one.position): one.data for one in reader.got} == answered


def are_all_there(readers: list[Reader], publishers: list[Publisher]) -> bool:
    count = sum(len(one.positions) for one in publishers)
    return all(len(reader.got) >= count for reader in readers)


def have(publishers: list[Publisher], counts: list[int]) -> bool:
    return all(len(one.positions) > count for one, count in zip(publishers, counts, strict=True))


def troubles(readers: list[Reader]) -> int:
    return sum(len(one.story.closed) + len(one.story.notes) for one in readers)


def are_troubled(readers: list[Reader], count: int, until_when: float) -> bool:
    """Or have had the time to be."""
    return troubles(readers) >= count or time.monotonic() > until_when


def how_many(readers: list[Reader], publishers: list[Publisher]) -> Callable[[], object]:
    return lambda: (
        [len(one.positions) for one in publishers],
        [
            (one.client.options.transports, len(one.got), one.client.state, one.story.reasons[-3:])
            for one in readers
        ],
    )


@pytest.mark.timeout(120)
async def test_twenty_kills_of_the_server(channel: str) -> None:
    """SIGKILL in the middle of it, twenty times, with every transport and the ladder."""
    with run_server(engine="sqlite:///kills.db", config="connects_per_s = 0") as server:
        options = FAST._replace(backoff_cap_s=0.3)
        clients = [client_of(server.url, name, options) for name in (*TRANSPORTS, "", "")]
        for client in clients:
            client.start()
        readers = [Reader(client, channel, is_iterating=client is clients[-1]) for client in clients]
        writers = [client_of(server.url, "", options), client_of(server.url, "longpoll", options)]
        for client in writers:
            client.start()
        publishers = [Publisher(client, channel, f"p{number}") for number, client in enumerate(writers)]
        what = how_many(readers, publishers)
        for _ in range(20):
            enough = [len(one.positions) + 5 for one in publishers]
            await until(partial(have, publishers, enough), 20, what)
            await asyncio.to_thread(server.restart)
        for publisher in publishers:
            await publisher.stop()
        await until(lambda: are_all_there(readers, publishers), 20, how_many(readers, publishers))
        check(readers, publishers)
        for client in (*clients, *writers):
            await client.close()
        told = ", ".join(str(len(one.positions)) for one in publishers)
        say(f"20 kills: {told} published and answered, {len(readers)} readers, each got all")


FAULTS: dict[str, Callable[[FaultyNetwork], Any]] = {
    "refuse": FaultyNetwork.refuse,
    "black_hole": FaultyNetwork.black_hole,
    "reset": FaultyNetwork.reset,
    "cut": FaultyNetwork.cut,
    "delay": lambda network: network.delay(0.05, jitter_s=0.1),
    "throttle": lambda network: network.throttle(20_000),
    "cut_after": lambda network: network.cut_after(1500),
    "buffer_responses": FaultyNetwork.buffer_responses,
    "answer_502": FaultyNetwork.answer_502,
    "strip_upgrade": FaultyNetwork.strip_upgrade,
    "cut_requests_after": lambda network: network.cut_requests_after(0.5),
}
"""Those that spare open connections are set and then all connections reset."""

SPARING = ("refuse", "cut_after", "buffer_responses", "answer_502", "strip_upgrade")


@pytest.mark.parametrize("fault", FAULTS)
async def test_nothing_is_lost_whatever_the_network_does(
    fault: str, server: ServerProcess, channel: str
) -> None:
    """The fault comes three times for a while, in the middle of it; reads and writes go through the same
    network."""
    options = FAST._replace(
        open_timeout_s=0.5,
        ping_interval_s=0.5,
        pong_timeout_s=0.5,
        poll_wait_s=2,
        upgrade_after_s=0.2,
        upgrade_cap_s=1,
    )
    async with FaultyNetwork.to(server.url) as network:
        clients = [client_of(network.url, name, options) for name in ("", *TRANSPORTS)]
        writer = client_of(network.url, "", options)
        for client in (*clients, writer):
            client.start()
        readers = [Reader(client, channel) for client in clients]
        publisher = Publisher(writer, channel, at_a_time=4)
        for _ in range(3):
            await until(
                partial(have, [publisher], [len(publisher.positions) + 20]),
                20,
                how_many(readers, [publisher]),
            )
            FAULTS[fault](network)
            if fault in SPARING:
                network.reset()
            await until(partial(are_troubled, readers, troubles(readers) + 4, time.monotonic() + 0.7))
            network.heal()
        await publisher.stop()
        await until(lambda: are_all_there(readers, [publisher]), 20, how_many(readers, [publisher]))
        check(readers, [publisher])
        for client in (*clients, writer):
            await client.close()


async def walk_down(
    server: ServerProcess, channel: str, cut_after_s: float, options: Options
) -> list[tuple[str, float]]:
    """Take one transport after the other away; the seconds until the client was online again and had
    published."""
    took: list[tuple[str, float]] = []

    async def check_up(what: str, transport: str, began: float) -> None:
        await until(
            lambda: client.state == "online" and client.transport == transport,
            15,
            lambda: (what, story.reasons, story.notes),
        )
        async with asyncio.timeout(10):
            await client.publish(channel, what)
        took.append((what, time.monotonic() - began))
        await until(lambda: what in data(reader.got), 10)

    async with FaultyNetwork.to(server.url) as network, client_of(network.url, "", options) as client:
        reader = Reader(client, channel)
        story = reader.story
        await check_up("well", "websocket", time.monotonic())
        network.strip_upgrade()
        network.reset()
        await check_up("WebSocket blocked", "sse", time.monotonic())
        network.buffer_responses()
        network.reset()
        await check_up("and event streams held back", "longpoll", time.monotonic())
        network.cut_requests_after(cut_after_s)
        network.reset()
        await check_up("and long polls cut", "longpoll", time.monotonic())
        await until(
            lambda: any("asking for" in note for note in story.notes),
            3 * options.poll_wait_s,
            lambda: story.notes,
        )
        for number in range(5):
            await client.publish(channel, number)
        await until(lambda: data(reader.got)[-5:] == [0, 1, 2, 3, 4], 10)
        assert client.state == "online"
        check_offsets(reader)
    return took


def check_offsets(reader: Reader) -> None:
    offsets = [one.position.offset for one in reader.got if one.position]
    assert offsets == list(range(1, len(offsets) + 1))
    assert reader.story.gaps == []


async def test_down_the_ladder(server: ServerProcess, channel: str) -> None:
    options = FAST._replace(open_timeout_s=2, poll_wait_s=5, upgrade_after_s=600)
    took = await walk_down(server, channel, 3, options)
    say("".join(f"\n{what}: online and published after {seconds:.2f} s" for what, seconds in took))
    assert max(seconds for _, seconds in took) < 10


@pytest.mark.timeout(120)
async def test_down_the_ladder_with_a_proxy_that_cuts_after_ten_seconds(
    server: ServerProcess, channel: str
) -> None:
    """With the options as they come."""
    took = await walk_down(server, channel, 10, Options())
    say("".join(f"\n{what}: online and published after {seconds:.2f} s" for what, seconds in took))
    assert max(seconds for _, seconds in took) < 10


async def test_a_cold_start_where_only_polls_get_through(server: ServerProcess, channel: str) -> None:
    """With the options as they come. What hangs is the worst: it takes its whole time, and says nothing."""
    async with FaultyNetwork.to(server.url) as network:
        network.black_hole()
        network.only(["/connection/websocket", "/connection/sse"])
        began = time.monotonic()
        async with client_of(network.url, "", Options()) as client:
            async with asyncio.timeout(10):
                await client.publish(channel, "x")
            say(f"cold: published after {time.monotonic() - began:.2f} s over {client.transport}")
            assert client.transport == "longpoll"


async def test_up_the_ladder_again(server: ServerProcess, channel: str) -> None:
    """While it is read and published, from polls to the WebSocket without a gap."""
    options = FAST._replace(upgrade_after_s=0.2, upgrade_cap_s=1, open_timeout_s=1)
    async with FaultyNetwork.to(server.url) as network:
        network.strip_upgrade()
        network.buffer_responses()
        async with client_of(network.url, "", options) as client, client_of(server.url) as writer:
            reader = Reader(client, channel)
            publishers = [Publisher(writer, channel, "there"), Publisher(client, channel, "here")]
            # A proxy's buffer is full some day, and lets an event stream through in gulps.
            await until(
                lambda: client.transport in ("longpoll", "sse") and len(reader.got) > 50,
                15,
                how_many([reader], publishers),
            )
            network.heal()
            await until(lambda: client.transport == "websocket", 15, how_many([reader], publishers))
            for publisher in publishers:
                await publisher.stop()
            await until(lambda: are_all_there([reader], publishers), 20, how_many([reader], publishers))
            check([reader], publishers)
            assert any("moved up" in note for note in reader.story.notes)


# -- dead peers ----------------------------------------------------------------------------------------------


@each_transport
async def test_both_sides_notice_a_dead_peer(transport: str, channel: str) -> None:
    """Nothing passes, nothing says goodbye: given up within the interval and the timeout, and a second for
    slow machines."""
    with run_server("--ping-interval-s", "2", "--pong-timeout-s", "1") as server:
        async with FaultyNetwork.to(server.url) as network:
            options = FAST._replace(ping_interval_s=2, pong_timeout_s=1, poll_wait_s=2)
            async with client_of(network.url, transport, options) as client, client_of(server.url) as other:
                story = Story(client)
                await client.subscribe(channel).ready()
                if transport in ("websocket", "sse"):
                    assert len(await other.presence(channel)) == 1
                network.black_hole(acknowledged=False)
                began = time.monotonic()
                await until(lambda: story.closed, 4.5)
                took_s = time.monotonic() - began
                if transport in ("websocket", "sse"):
                    while len(await other.presence(channel)):
                        assert time.monotonic() - began < 7, "the server still has it"
                say(
                    f"{transport}: noticed after {took_s:.2f} s by the client, {time.monotonic() - began:.2f}"
                    " s by the server"
                )
                network.reset()
                network.heal()
                await client.wait_online()


SLEEPER = """
import asyncio, sys, heartwire
from heartwire import Options
async def main():
    async with heartwire.connect(sys.argv[1], transports=sys.argv[3:] or None) as client:
        client.on("state", lambda change: print(change.state, flush=True))
        client.subscribe(sys.argv[2], lambda received: print("got", received.data, flush=True), since="earliest")
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.parametrize("transport", ["websocket", "sse", "longpoll"])
async def test_back_within_five_seconds_of_waking(
    transport: str, server: ServerProcess, channel: str
) -> None:
    """The process stands still, and the network has forgotten its connections meanwhile."""
    async with FaultyNetwork.to(server.url) as network, client_of(server.url) as other:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            SLEEPER,
            network.url,
            channel,
            transport,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SRC)},
        )
        dead: dict[Any, Any] = {}
        try:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                await other.publish(channel, "before")
                while await process.stdout.readline() != b"got before\n":
                    pass
                process.send_signal(signal.SIGSTOP)
                network.black_hole()
                dead = dict(
                    network._open
                )  # as of a router that was restarted: new connections are well, these stay dead
                assert dead
                network._open.clear()
                for number in range(20):
                    await other.publish(channel, number)
                asleep = time.monotonic()
                await until(lambda: time.monotonic() - asleep > 4)  # a real nap: a jump of over 3 s is one
                network.heal()
                process.send_signal(signal.SIGCONT)
                woke = time.monotonic()
                while await process.stdout.readline() != b"got 19\n":
                    pass
            took_s = time.monotonic() - woke
            say(f"{transport}: back {took_s:.2f} s after waking")
            assert took_s < 5
        finally:
            network._open.update(dead)
            process.kill()
            await process.wait()
