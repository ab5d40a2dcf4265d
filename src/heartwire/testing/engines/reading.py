"""Checks of `Engine.read`, retention and `Engine.sweep`."""

import math
from typing import Final

from heartwire.engines.contract import Retention
from heartwire.testing.engines.bench import A, B, Bench, Check, offsets_of
from heartwire.testing.promises import checks_in, expect, promise
from heartwire.types import EARLIEST, NOW, Channel, Position

__all__ = ["READING"]


async def a_read_goes_on_after_a_position(bench: Bench) -> None:
    positions = await bench.fill(A, 10)
    for start in (Position(positions[0].epoch, 0), *positions):
        result = await bench.read(A, start)
        expect(f"a read after {start}", offsets_of(result.publications), list(range(start.offset + 1, 11)))
        promise(result.recovered, f"{start} can be continued, so recovered is true")
        expect(f"a read after {start} starts there", result.start, start)
        expect("head", result.head, positions[-1])


async def a_read_from_the_earliest_has_everything(bench: Bench) -> None:
    positions = await bench.fill(A, 5)
    result = await bench.read(A, EARLIEST)
    expect("EARLIEST", offsets_of(result.publications), [1, 2, 3, 4, 5])
    start = Position(positions[0].epoch, 0)
    expect("EARLIEST starts before the oldest that is kept", result.start, start)
    promise(result.recovered, "EARLIEST can always be continued")


async def a_read_from_now_gives_the_head(bench: Bench) -> None:
    head = (await bench.fill(A, 5))[-1]
    result = await bench.read(A, NOW)
    promise(result.publications == [], "NOW reads nothing")
    expect("NOW starts at the head", (result.start, result.head), (head, head))
    promise(result.recovered, "NOW can always be continued")


async def a_read_obeys_its_limit(bench: Bench) -> None:
    head = (await bench.fill(A, 10))[-1]
    for limit in (0, 1, 4, 10, 11):
        result = await bench.read(A, EARLIEST, limit=limit)
        expect(f"limit={limit}", offsets_of(result.publications), list(range(1, min(limit, 10) + 1)))
        expect("head is the stream's, not the last read", result.head, head)
        expect("a limit changes only the number of items", (result.start.offset, result.recovered), (0, True))


async def a_read_obeys_its_bytes(bench: Bench) -> None:
    for _ in range(5):
        await bench.append(A, "x" * 100)
    for max_bytes, count in ((1, 1), (100, 1), (101, 2), (250, 3), (499, 5), (10_000, 5)):
        got = len((await bench.read(A, EARLIEST, max_bytes=max_bytes)).publications)
        expect(f"items read until max_bytes={max_bytes} are reached", got, count)


async def pages_make_a_whole(bench: Bench) -> None:
    await bench.fill(A, 50)
    seen: list[int] = []
    result = await bench.read(A, EARLIEST, limit=7)
    while result.publications:
        seen += offsets_of(result.publications)
        result = await bench.read(A, result.publications[-1].position, limit=7)
    expect("reading on after the last of each page", seen, list(range(1, 51)))


# -- retention -----------------------------------------------------------------------------------------------


async def a_stream_is_trimmed_by_size(bench: Bench) -> None:
    keep = Retention(3, 86_400)
    await bench.fill(A, 10, keep)
    result = await bench.read(A, EARLIEST, keep)
    expect("history_size=3", offsets_of(result.publications), [8, 9, 10])
    expect("EARLIEST starts before the oldest that is kept", result.start.offset, 7)


async def a_stream_is_trimmed_by_age(bench: Bench) -> None:
    keep = Retention(100, 60)
    for _ in range(4):  # at 0, 20, 40 and 60 s
        await bench.append(A, "x", keep)
        bench.clock.advance(20)
    kept = await bench.offsets(A, EARLIEST, keep)  # at 80 s
    promise(kept[-2:] == [3, 4], "publications younger than history_ttl_s are kept")
    bench.clock.advance(1)
    result = await bench.read(A, EARLIEST, keep)
    expect("older than history_ttl_s", offsets_of(result.publications), [3, 4])
    expect("EARLIEST starts before the oldest that is kept", result.start.offset, 2)


async def a_stream_can_be_kept_for_ever(bench: Bench) -> None:
    keep = Retention(10**30, math.inf)
    await bench.fill(A, 3, keep)
    bench.clock.advance(1000 * 86_400)
    promise(await bench.offsets(A, EARLIEST, keep) == [1, 2, 3], "without bounds everything is kept")


async def offsets_go_on_after_everything_was_trimmed(bench: Bench) -> None:
    keep = Retention(100, 60)
    head = (await bench.fill(A, 3, keep))[-1]
    bench.clock.advance(1000)
    for start in (EARLIEST, NOW, head):
        result = await bench.read(A, start, keep)
        promise(result.publications == [], "publications older than history_ttl_s are gone")
        promise(result.recovered, f"{start} of a stream that kept nothing misses nothing")
        expect("a trimmed stream keeps its head", (result.start, result.head), (head, head))
    missed = await bench.read(A, Position(head.epoch, 2), keep)
    promise(not missed.recovered, "a position before trimmed publications cannot be continued")
    expect("it starts at the head", missed.start, head)
    expect("offsets go on", await bench.append(A, "x", keep), Position(head.epoch, 4))


async def a_position_that_is_gone_is_reported(bench: Bench) -> None:
    keep = Retention(3, 86_400)
    epoch = (await bench.fill(A, 10, keep))[0].epoch
    edge = await bench.read(A, Position(epoch, 7), keep)
    promise(edge.recovered, "a position right before the oldest that is kept can be continued")
    unknown = [Position(epoch, 0), Position(epoch, 6), Position(epoch, 11), Position(epoch, 10**18 - 1)]
    unknown += [Position("other", 0), Position("other", 8), Position(epoch[:-1], 8), Position(epoch + "A", 8)]
    for start in unknown:
        result = await bench.read(A, start, keep)
        promise(not result.recovered, f"{start} cannot be continued, so recovered is false")
        expect(f"{start} starts before the oldest that is kept", result.start, Position(epoch, 7))
        promise(offsets_of(result.publications) == [8, 9, 10], f"{start} gets everything that is kept")


async def an_unborn_stream_has_its_first_epoch(bench: Bench) -> None:
    for start in (EARLIEST, NOW):
        result = await bench.read(A, start)
        promise(result.publications == [], "a stream without publications has none")
        promise(result.recovered, f"{start} of a stream without publications misses nothing")
        expect("its head", (result.start, result.head.offset), (result.head, 0))
    head = result.head
    gone = await bench.read(A, Position("other", 3))
    what = "a foreign position cannot be continued in a stream without publications"
    expect(what, (gone.recovered, gone.start), (False, head))
    promise((await bench.read(A, head)).recovered, "the head before any publication can be continued")
    what = "the first append keeps the epoch of the read before it"
    expect(what, await bench.append(A), Position(head.epoch, 1))
    promise((await bench.read(A, head)).recovered, "the head from before the first append can be continued")


async def a_sweep_trims_what_nobody_publishes_to(bench: Bench) -> None:
    forever = Retention(100, math.inf)
    for channel in (A, B):
        await bench.fill(channel, 3, forever)
    bench.clock.advance(100)
    await bench.append(A, "young", forever)
    await bench.engine.sweep(lambda channel: Retention(100, 60) if channel == A else forever)
    kept = {channel: await bench.offsets(channel, EARLIEST, forever) for channel in (A, B)}
    expect("a sweep trims each channel to its retention", kept, {A: [4], B: [1, 2, 3]})


async def a_forgotten_stream_comes_back_in_another_epoch(bench: Bench) -> None:
    keep = Retention(10, 60)
    last = (await bench.fill(A, 3, keep))[-1]
    for _ in range(3):
        bench.clock.advance(40 * 86_400)
        await bench.engine.sweep(lambda channel: keep)
    position = await bench.append(A, "x", keep)
    is_other = position.epoch != last.epoch and position.offset == 1
    goes_on = position == Position(last.epoch, 4)
    promise(is_other or goes_on, f"a stream swept at {last} either goes on or changes its epoch: {position}")


async def a_sweep_keeps_keys_that_hold(bench: Bench) -> None:
    first = await bench.append(A, key="k", key_ttl_s=300)
    bench.clock.advance(299)
    await bench.engine.sweep(lambda channel: Retention(1, 1))
    promise(await bench.append(A, key="k", key_ttl_s=300) == first, "a sweep forgets no key that still holds")


async def a_sweep_never_brings_an_old_position_back(bench: Bench) -> None:
    keep = Retention(100, 60)
    old = (await bench.fill(A, 3, keep))[-1]
    for _ in range(4):
        bench.clock.advance(50 * 86_400)
        await bench.engine.sweep(lambda channel: keep)
    new = [await bench.append(A, "x", keep) for _ in range(3)]
    went_on = new[0] == Position(old.epoch, 4)
    began = new[0].epoch != old.epoch and new[0].offset == 1
    what = f"a stream unused for long goes on after {old} or begins another epoch"
    promise(went_on or began, f"{what}; it went on at {new[0]}")
    if began:
        is_recovered = (await bench.read(A, old, keep)).recovered
        promise(not is_recovered, "a position of a stream's former life cannot be continued")


async def a_sweep_of_others_leaves_an_unborn_stream_its_epoch(bench: Bench) -> None:
    keep = Retention(100, 60)
    for number in range(4):
        await bench.append(Channel(f"idle:{number}"), "x", keep)
        bench.clock.advance(86_400)
    bench.clock.advance(29 * 86_400)
    await bench.engine.sweep(lambda channel: keep)
    head = (await bench.read(A, NOW, keep)).head
    for _ in range(4):
        bench.clock.advance(86_400)
        await bench.engine.sweep(lambda channel: keep)
    what = "a stream without publications keeps its epoch while others are swept"
    expect(what, await bench.append(A, "x", keep), Position(head.epoch, 1))


READING: Final[tuple[Check, ...]] = checks_in(globals())
