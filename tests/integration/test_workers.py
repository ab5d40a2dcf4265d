"""`heartwire serve --workers N` as real processes: what happens when one of them dies, ends or is replaced."""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

import heartwire
from heartwire.client.options import Transport
from heartwire.testing.server import COMMAND, ServerProcess, run_server
from tests.integration.client.tools import say, until
from tests.integration.wire import get, publish

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc"),
]

WITHIN_S: Final = 30
OPTIONS: Final = heartwire.Options(
    backoff_base_s=0.02, backoff_cap_s=0.1, attempt_burst=1000, attempt_rate_per_s=1000, poll_interval_s=0.05
)
"""Comes back at once; but gives processes that start their time."""

TRANSPORTS: Final[tuple[Transport, ...]] = ("websocket", "sse", "longpoll")


class Children:
    """The processes of a server, as they are now."""

    def __init__(self, server: ServerProcess) -> None:
        text = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
        pids = [int(word) for word in text.split()]
        stores = [pid for pid in pids if b"workers.store" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        self.store = stores[0] if stores else 0
        self.workers = [pid for pid in pids if pid not in stores]


def ends(pids: list[int], within_s: float) -> list[int]:
    """The processes in the order in which they ended."""
    order: list[int] = []
    watched = {os.pidfd_open(pid): pid for pid in pids}
    deadline = time.monotonic() + within_s
    while watched:
        ready, _, _ = select.select(list(watched), [], [], deadline - time.monotonic())
        assert ready, f"{list(watched.values())} have not ended"
        for one in ready:
            order.append(watched.pop(one))
            os.close(one)
    return order


class Readers:
    """Clients of one channel, and what each has received."""

    def __init__(self, url: str, channel: str, count: int) -> None:
        self.got: list[list[str]] = [[] for _ in range(count)]
        self.closes = [0] * count
        self.gaps = 0
        self._url, self._channel = url, channel
        self._ready = 0

    def __call__(self) -> contextlib.AbstractAsyncContextManager["Readers"]:
        return self._reading()

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator["Readers"]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._read(number)) for number in range(len(self.got))]
            await until(lambda: self._ready == len(tasks), WITHIN_S)
            yield self
            for task in tasks:
                task.cancel()

    async def _read(self, number: int) -> None:
        transport = TRANSPORTS[number % len(TRANSPORTS)]
        async with heartwire.connect(self._url, transports=[transport], options=OPTIONS) as client:

            def closed(_: object) -> None:
                self.closes[number] += 1

            def gap(_: object) -> None:
                self.gaps += 1

            client.on("close", closed)
            client.on("gap", gap)
            async with client.subscribe(self._channel) as subscription:
                await subscription.ready()
                self._ready += 1
                async for received in subscription:
                    self.got[number].append(str(received.data))

    async def have(self, text: str) -> None:
        """Wait until each has this text."""
        await until(lambda: all(text in one for one in self.got), WITHIN_S, lambda: self.got)


class Publisher:
    """Publishes by POST, with keys, each on a connection of its own; `refused` is what was not answered 200."""

    def __init__(self, url: str, channel: str, name: str) -> None:
        self.sent: list[str] = []
        self.refused: list[str] = []
        self.longest_s = 0.0
        self.is_going = True
        self._url, self._name = f"{url}/channels/{channel}", name

    async def publish(self) -> str:
        text = f"{self._name}{len(self.sent)}"
        began = time.monotonic()
        while not await self._post(text):
            pass
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        self.sent.append(text)
        return text

    async def _post(self, text: str) -> bool:
        headers = {"Idempotency-Key": text, "Content-Type": "text/plain"}
        with contextlib.suppress(aiohttp.ClientError):  # its worker was killed: the key makes that harmless
            async with aiohttp.request("POST", self._url, data=text, headers=headers) as answer:
                if answer.status == 200:
                    return True
                self.refused.append(await answer.text())
        return False

    @contextlib.asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Publish one after another while the block runs."""

        async def work() -> None:
            while self.is_going:
                await self.publish()
                await asyncio.sleep(0.02)  # the processes that start need the cores

        task = asyncio.ensure_future(work())
        try:
            yield
        finally:
            self.is_going = False
            await task


# -- kill -9 -------------------------------------------------------------------------------------------------


async def test_clients_of_a_killed_worker_go_on_elsewhere_and_miss_nothing() -> None:
    with run_server("--workers", "2", engine="sqlite:///s.db") as server:
        publisher, longest_s = Publisher(server.url, "a", "m"), 0.0
        async with Readers(server.url, "a", 6)() as readers:
            for worker in Children(server).workers:
                os.kill(worker, signal.SIGKILL)
                killed = time.monotonic()
                await readers.have(await publisher.publish())
                longest_s = max(longest_s, time.monotonic() - killed)
            assert readers.got == [publisher.sent] * 6
            # Each was at one of the two; a long poll may have come to another between its answers.
            assert all(closes for number, closes in enumerate(readers.closes) if number % 3 < 2)
            assert (readers.gaps, publisher.refused) == (0, [])
        await until(lambda: len(Children(server).workers) == 2, WITHIN_S)
        assert server.log.count("was ended by SIGKILL; another starts in 0.1 s") == 2
        say(f"worker killed: all have the next message after {longest_s:.2f} s")


async def test_publishes_wait_for_a_killed_store_and_readers_are_whole() -> None:
    with run_server("--workers", "2", engine="sqlite:///s.db") as server:
        publishers = [Publisher(server.url, "a", name) for name in "xyz"]
        async with Readers(server.url, "a", 3)() as readers, contextlib.AsyncExitStack() as stack:
            for one in publishers:
                await stack.enter_async_context(one.publishing())
            await until(lambda: all(len(one.sent) > 20 for one in publishers), WITHIN_S)
            os.kill(Children(server).store, signal.SIGKILL)
            before = [len(one.sent) for one in publishers]
            await until(
                lambda: all(len(one.sent) > n + 20 for one, n in zip(publishers, before, strict=True)),
                WITHIN_S,
            )
            await stack.aclose()
            for one in publishers:
                await readers.have(one.sent[-1])
            assert not any(readers.closes)
        assert [one.refused for one in publishers] == [[], [], []]
        for got in readers.got:
            assert [[text for text in got if text[0] == name] for name in "xyz"] == [
                one.sent for one in publishers
            ]
        assert readers.gaps == 0
        say(f"store killed: a publish took {max(one.longest_s for one in publishers):.2f} s")


async def test_readers_of_streams_that_a_killed_store_had_in_memory_get_a_gap() -> None:
    with run_server("--workers", "2") as server:
        publisher = Publisher(server.url, "a", "m")
        async with Readers(server.url, "a", 1)() as readers:
            await readers.have(await publisher.publish())
            os.kill(Children(server).store, signal.SIGKILL)
            await readers.have(await publisher.publish())
            assert (readers.got, readers.gaps) == ([["m0", "m1"]], 1)
        assert publisher.refused == []


def test_workers_and_store_end_when_the_parent_is_killed_and_the_port_is_free() -> None:
    with run_server("--workers", "2", engine="sqlite:///s.db") as server:
        children = Children(server)
        began = time.monotonic()
        os.kill(server.pid, signal.SIGKILL)
        ends([*children.workers, children.store], WITHIN_S)
        say(f"parent killed: all are gone after {time.monotonic() - began:.2f} s")
        server.stop()
        assert "the store is gone" not in server.log  # they were done with it when it ended
        socket.create_server(("127.0.0.1", server.port)).close()
        assert "Traceback" not in server.log
        server.start()  # on the same port, and the same file
        publish(server.url, "a", "x")


# -- the end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["the parent by Ctrl-C", "all of a service"])
def test_the_store_ends_last(to: str) -> None:
    with run_server("--workers", "2", engine="sqlite:///s.db") as server:
        publish(server.url, "a", "x")
        children = Children(server)
        order: list[int] = []
        everyone = [*children.workers, children.store]
        watcher = threading.Thread(target=lambda: order.extend(ends(everyone, WITHIN_S)))
        watcher.start()
        if to == "all of a service":
            for pid in everyone:
                os.kill(pid, signal.SIGTERM)
        assert server.stop(signal.SIGINT if "Ctrl-C" in to else signal.SIGTERM) == 0
        watcher.join()
        if to != "all of a service":
            assert order[-1] == children.store
            assert "ERROR" not in server.log
        assert "the store is gone" not in server.log
        assert "Traceback" not in server.log


async def test_a_second_interrupt_kills() -> None:
    with run_server("--workers", "2") as server:
        worker = Children(server).workers[0]
        os.kill(worker, signal.SIGSTOP)  # it would have ten seconds
        await until(lambda: "\tT" in status(worker))
        os.kill(server.pid, signal.SIGINT)
        await until(lambda: is_pending(worker, signal.SIGTERM))
        server.stop(signal.SIGINT, within_s=5)


def status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a stopped process has been sent a signal."""
    return bool(int(status(pid).partition("ShdPnd:")[2].split()[0], 16) >> (number - 1) & 1)


# -- SIGHUP --------------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)  # it starts nine processes
async def test_a_rolling_restart_under_load_refuses_and_loses_nothing() -> None:
    with run_server("--workers", "4", engine="sqlite:///s.db") as server:
        before = Children(server)
        publishers = [Publisher(server.url, "a", name) for name in "xy"]
        async with Readers(server.url, "a", 3)() as readers, contextlib.AsyncExitStack() as stack:
            for one in publishers:
                await stack.enter_async_context(one.publishing())
            client = await stack.enter_async_context(heartwire.connect(server.url, options=OPTIONS))
            os.kill(server.pid, signal.SIGHUP)
            count = 0
            while "all workers are new" not in server.log:
                await client.publish("a", f"z{count}")
                await asyncio.sleep(0.02)
                count += 1
            await client.publish("a", "last")
            await stack.aclose()
            for one in publishers:
                await readers.have(one.sent[-1])
            await readers.have("last")
        sent = {"x": publishers[0].sent, "y": publishers[1].sent, "z": [f"z{n}" for n in range(count)]}
        for got in readers.got:
            assert {name: [text for text in got if text[0] == name] for name in sent} == sent
        assert [one.refused for one in publishers] == [[], []]
        assert readers.gaps == 0
        after = Children(server)
        assert (after.store, len(after.workers)) == (before.store, 4)
        assert not set(after.workers) & set(before.workers)
        assert "ERROR" not in server.log
        say(f"rolling restart: {sum(map(len, sent.values()))} publishes")


async def test_a_worker_that_does_not_come_up_ends_the_roll_and_the_old_ones_stay() -> None:
    with run_server("--workers", "2", config="max_connections = 7", engine="memory") as server:
        before = Children(server).workers
        (server.folder / "heartwire.toml").write_text("max_conections = 8")
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: "a new worker does not come up, so the old ones stay" in server.log, WITHIN_S)
        assert "did you mean max_connections?" in server.log
        assert Children(server).workers == before
        publish(server.url, "a", "x")
        (server.folder / "heartwire.toml").write_text("max_connections = 8")
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: server.log.count("replacing the workers") == 2, WITHIN_S)
        for _ in range(3):  # while it is under way: once more afterwards
            os.kill(server.pid, signal.SIGHUP)
            await asyncio.sleep(0)
        await until(lambda: server.log.count("all workers are new") == 2, WITHIN_S)
        assert server.log.count("replacing the workers") == 3
        assert get(server.url, "/channels/a?since=earliest").json["publications"][0]["data"] == "x"


# -- the start -----------------------------------------------------------------------------------------------

PROGRAM: Final = """
from heartwire import Hub
from heartwire.engines.memory import MemoryEngine
hub = Hub("sqlite:///own.db", connects_per_s=0)
thing = Hub(MemoryEngine())
first, second = Hub(), Hub()

@hub.namespace("", history_size=2)
async def may(identity, action, channel):
    return True
"""


def test_a_hub_of_ones_own_is_served_by_workers(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with run_server("program:hub", "--workers", "2", engine=None, folder=tmp_path) as server:
        for number in range(4):
            publish(server.url, "a", f"{number}")
        for _ in range(8):  # connections come to either worker
            page = get(server.url, "/channels/a?since=earliest").json
            assert [item["data"] for item in page["publications"]] == [2, 3]
        assert "(2 workers; streams in own.db; Ctrl-C ends)" in server.log
    for target, why in (("thing", "a URL: workers share"), ("first", "a second hub of this program")):
        with (
            pytest.raises(RuntimeError, match=why) as failed,
            run_server(f"program:{target}", "--workers", "2", engine=None, folder=tmp_path),
        ):
            pass
        assert "Traceback" not in str(failed.value)


def test_what_cannot_start_ends_the_parent_with_one_line(tmp_path: Path) -> None:
    with run_server("--workers", "2", "--log-format", "json", engine="sqlite:///s.db") as server:
        line = json.loads(server.log)
        assert line["message"] == f"Heartwire is up at {server.url} (2 workers; streams in s.db)"
        file = server.folder / "s.db"
        for arguments, why in (
            (("--engine", f"sqlite:///{file}", "--port", "0"), f"{file} is in use by another process"),
            (("--engine", "memory", "--port", str(server.port)), "cannot listen: Address already in use"),
            (("--engine", "nonsense", "--port", "0"), "engine = 'nonsense'"),
        ):
            done = subprocess.run(
                (*COMMAND, "serve", "--workers", "2", *arguments),
                capture_output=True,
                text=True,
                timeout=WITHIN_S,
                cwd=tmp_path,
            )
            assert done.returncode == 1
            assert why in done.stderr
            assert done.stderr.count("\n") == 1, done.stderr
