"""Uploads: their bytes have one bound, and each has to go on. Time is moved by hand."""

import asyncio
import contextlib

import pytest

from heartwire.core.deadlines import Deadlines
from heartwire.errors import LimitExceeded, Refused
from heartwire.hub.clocks import Clocks
from heartwire.hub.uploads import STALL_S, Upload, Uploads


class Fixture:
    def __init__(self, max_bytes: int = 1000) -> None:
        self.now = 100.0
        clocks = Clocks()
        clocks.monotonic = lambda: self.now
        self.deadlines = Deadlines()
        self.uploads = Uploads(max_bytes, clocks, self.deadlines)

    def begin(self, size: int = 0) -> tuple[Upload, "asyncio.Task[Refused | None]"]:
        upload = self.uploads.begin()

        async def read() -> Refused | None:
            with contextlib.suppress(TimeoutError):
                async with upload.timeout:
                    await asyncio.Event().wait()
            self.uploads.end(upload)
            return upload.refusal

        task = asyncio.ensure_future(read())
        self.uploads.grow(upload, size)
        return upload, task

    async def at(self, now: float) -> None:
        self.now = now
        await asyncio.sleep(0)  # the readers begin
        self.deadlines.advance(now)


async def test_a_body_that_stops_is_ended_after_its_time_and_one_that_goes_on_is_not() -> None:
    here = Fixture()
    _, stopped = here.begin(10)
    going, still = here.begin(10)
    await here.at(100 + STALL_S - 1)
    here.uploads.grow(going, 1)
    assert not stopped.done()
    await here.at(100 + STALL_S)
    refusal = await stopped
    assert refusal is not None
    assert refusal.code.name == "upload_stalled"
    assert "10 bytes" in str(refusal)
    assert here.uploads.size_bytes == 11
    await here.at(100 + 2 * STALL_S - 2)
    assert not still.done()
    await here.at(100 + 2 * STALL_S - 1)
    assert (await still) is not None
    assert here.uploads.size_bytes == 0
    _, again = here.begin()  # the deadline is set again after a pause
    await here.at(here.now + STALL_S)
    assert (await again) is not None


async def test_over_the_bound_what_comes_is_refused() -> None:
    here = Fixture()
    _, first = here.begin(900)
    with pytest.raises(LimitExceeded, match=r"1001 is over the limit of 1000") as refused:
        here.begin(101)
    assert refused.value.code.name == "uploads_full"
    assert refused.value.code.http_status == 503
    assert here.uploads.size_bytes == 900
    await asyncio.sleep(0)
    here.uploads.refuse_all(Refused("shutdown", "going"))
    assert (await first) is not None


async def test_over_the_bound_those_that_stand_still_make_room() -> None:
    here = Fixture()
    old = [here.begin(300)[1] for _ in range(3)]
    await here.at(101)
    upload, new = here.begin(300)
    ended = await old[0]
    assert ended is not None
    assert ended.code.name == "upload_stalled"
    assert not old[1].done(), "only as many as are needed"
    assert here.uploads.size_bytes == 900
    here.uploads.end(upload)
    assert here.uploads.size_bytes == 600
    for task in (*old, new):
        task.cancel()


async def test_draining_ends_all() -> None:
    here = Fixture()
    tasks = [here.begin(10)[1] for _ in range(3)]
    await asyncio.sleep(0)
    here.uploads.refuse_all(Refused("shutdown", "going"))
    assert [str(await task) for task in tasks] == ["going"] * 3
    assert here.uploads.size_bytes == 0
