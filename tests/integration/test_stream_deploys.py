"""A hundred streams while their workers are replaced one after the other."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.integration.client.tools import until
from tests.integration.streams_app import LEASE_S
from tests.processes import AppProcess, run_app

pytestmark = pytest.mark.slow

APP: Final = "tests.integration.streams_app:app"

STREAMS: Final = 50
"""Of each kind."""


def environment(folder: Path) -> dict[str, str]:
    return {"ENGINE": f"sqlite:///{folder}/a.db?shared=yes", "FOLDER": str(folder)}


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


class Reader:
    """One that asks a worker, and the other one when that goes away, from where it was."""

    def __init__(self, name: str, workers: list[AppProcess]) -> None:
        self.name = name
        self.got: list[str] = []
        self.end = ""
        self.breaks = 0
        self._workers = workers
        self._at = ""

    async def read(self, session: aiohttp.ClientSession) -> None:
        method = "POST"
        while not self.end:
            with contextlib.suppress(aiohttp.ClientError):
                method = await self._read(session, method)
            if not self.end:
                self.breaks += 1
                self._workers.reverse()
                await asyncio.sleep(0.05)

    async def _read(self, session: aiohttp.ClientSession, method: str) -> str:
        headers = {"last-event-id": self._at} if self._at else {}
        async with session.request(method, f"{self._workers[0].url}/{self.name}", headers=headers) as answer:
            if answer.status != 200:
                return method
            with contextlib.suppress(aiohttp.ClientError):
                async for line in answer.content:
                    self._hear(line.decode().rstrip("\n"))
            return "GET"

    def _hear(self, line: str) -> None:
        kind, _, text = line.partition(": ")
        if kind == "id":
            self._at = text
        elif kind == "data" and self._at == "end":
            self.end = text
        elif kind == "data":
            self.got.append(text)


async def more(readers: list[Reader]) -> None:
    """Wait until each has got something else."""
    seen = [len(reader.got) for reader in readers]
    await until(lambda: all(len(reader.got) > n for reader, n in zip(readers, seen, strict=True)))


def runs(folder: Path) -> dict[str, list[tuple[int, int]]]:
    """Of each stream, from which number on it was counted, and in which process."""
    found: dict[str, list[tuple[int, int]]] = {}
    for line in (folder / "runs").read_text().splitlines():
        name, number, process = line.split()
        found.setdefault(name, []).append((int(number), int(process)))
    return found


def check(readers: list[Reader], reason: str) -> None:
    """None was blank, and none got anything twice."""
    for reader in readers:
        assert reader.got == [str(n) for n in range(len(reader.got))]
        assert reader.got
    assert {reader.end for reader in readers} == {f'{{"reason":"{reason}"}}'}


@pytest.mark.timeout(120)
async def test_a_rolling_restart_in_the_middle_of_a_hundred_streams(tmp_path: Path) -> None:
    start = [run_app(APP, environment=environment(tmp_path)) for _ in range(2)]
    with contextlib.ExitStack() as stack:
        one, other = (stack.enter_context(worker) for worker in start)

        def ask(kind: str) -> list[Reader]:
            return [Reader(f"{kind}:{n}", [one, other] if n % 2 else [other, one]) for n in range(STREAMS)]

        short, long = ask("short"), ask("long")
        async with session() as http, asyncio.TaskGroup() as tasks:
            for reader in short + long:
                tasks.create_task(reader.read(http))
            for worker in (one, other):
                await more(long)
                await until(lambda: all(reader.got for reader in short))
                stopping = asyncio.ensure_future(asyncio.to_thread(worker.terminate))
                (tmp_path / "short").touch()  # they have the time to finish
                await stopping
                await asyncio.to_thread(worker.start)
            (tmp_path / "long").touch()
        check(short + long, "done")
        assert all(reader.breaks for reader in long)
    counted = runs(tmp_path)
    for n in range(STREAMS):
        assert len(counted[f"short:{n}"]) == 1
        assert len(counted[f"long:{n}"]) == (3 if n % 2 else 2)  # each was handed over by each that had it


@pytest.mark.timeout(120)
async def test_a_worker_of_uvicorn_that_is_killed_ends_a_run_that_was_asked_for_by_many(
    tmp_path: Path,
) -> None:
    with run_app(APP, environment=environment(tmp_path), workers=2) as server:
        readers = [Reader("long:1", [server]) for _ in range(20)]
        async with session() as http, asyncio.TaskGroup() as tasks:
            for reader in readers:
                tasks.create_task(reader.read(http))
            await until(lambda: all(len(reader.got) > 2 for reader in readers))
            ((_, process),) = runs(tmp_path)["long:1"]
            os.kill(process, signal.SIGKILL)
            await until(lambda: all(reader.end for reader in readers), LEASE_S + 1)
        check(readers, "interrupted")
        assert len({len(reader.got) for reader in readers}) == 1
