"""Checks of `Engine.remove`, presence leases, `Engine.stop`, and stores that are opened again."""

import asyncio
from functools import partial
from typing import Any, Final

import msgspec

from heartwire.core.waiting import settled
from heartwire.engines.contract import ReadResult, Retention
from heartwire.testing.engines.bench import KEEP, A, B, Bench, Check
from heartwire.testing.promises import checks_in, expect, promise
from heartwire.types import EARLIEST, NOW, Member, Message, Position, Publisher

__all__ = ["DURABLE", "ENDING"]


async def a_removed_stream_forgets_and_goes_on(bench: Bench) -> None:
    positions = await bench.fill(A, 3)
    head = await settled(bench.engine.remove(A))
    expect("remove answers the position after what it forgot", head, positions[-1])
    result = await bench.read(A, positions[0])
    lost = ReadResult(head, [], head, recovered=False)
    expect("a reader that had not seen all of a removed stream learns of the gap", result, lost)
    promise((await bench.read(A, head)).recovered, "a reader that had seen all of a removed stream goes on")
    expect("offsets go on after a remove", await bench.append(A, "new"), Position(head.epoch, 4))
    expect("removed publications stay away", await bench.offsets(A), [4])


async def a_key_holds_after_a_remove(bench: Bench) -> None:
    first = await bench.append(A, "x", key="k")
    await settled(bench.engine.remove(A))
    expect("a key holds after a remove", await bench.append(A, "x", key="k"), first)
    expect("a key does not bring a removed publication back", await bench.offsets(A), [])


async def a_remove_keeps_leases_and_other_channels(bench: Bench) -> None:
    await bench.append(B, "x")
    bench.engine.lease(A, Member("c-1", "ann", None), 60)
    await settled(bench.engine.remove(A))
    promise(set(await bench.present(A)) == {"c-1"}, "leases hold after a remove")
    promise(await bench.offsets(B) == [1], "a remove touches its channel only")


async def an_unborn_stream_can_be_removed(bench: Bench) -> None:
    head = await settled(bench.engine.remove(A))
    expect("the offset after a remove before the first append", head.offset, 0)
    position = await bench.append(A)
    expect("the first append keeps the epoch of the answer before it", position, Position(head.epoch, 1))


async def removes_are_applied_in_the_order_of_calls(bench: Bench) -> None:
    append, remove = partial(bench.engine.append, A, Message(b"x"), KEEP), partial(bench.engine.remove, A)
    answers = [append(), remove(), append()]
    offsets = [(await settled(answer)).offset for answer in answers]
    expect("a remove between two appends", offsets, [1, 1, 2])
    expect("a remove takes what came before it", await bench.offsets(A), [2])


# -- presence ------------------------------------------------------------------------------------------------


async def a_lease_is_seen_until_it_is_released(bench: Bench) -> None:
    ann, bob = Member("c-1", "ann", b'{"age":7}'), Member("c-2")
    promise(await bench.present(A) == {}, "no member is present at first")
    bench.engine.lease(A, ann, 35)
    bench.engine.lease(A, bob, 35)
    expect("the holders of leases are present, as given", await bench.present(A), {"c-1": ann, "c-2": bob})
    promise(await bench.present(B) == {}, "a lease holds in its channel only")
    bench.engine.release(B, "c-1")
    bench.engine.release(A, "c-2")
    bench.engine.release(A, "never seen")
    promise(await bench.present(A) == {"c-1": ann}, "a release ends one client's lease in one channel")
    bench.engine.release(A, "c-1")
    promise(await bench.present(A) == {}, "no member is present once all are released")


async def leases_are_applied_in_the_order_of_calls(bench: Bench) -> None:
    for _ in range(20):
        bench.engine.lease(A, Member("c-1"), 35)
        bench.engine.release(A, "c-1")
        bench.engine.release(A, "c-2")
        bench.engine.lease(A, Member("c-2"), 35)
    promise(set(await bench.present(A)) == {"c-2"}, "leases and releases are applied in the order of calls")


async def a_lease_expires_unless_it_is_renewed(bench: Bench) -> None:
    bench.engine.lease(A, Member("c-1"), 35)
    bench.engine.lease(A, Member("c-2"), 35)
    await bench.present(A)  # a store in another process has them now
    bench.clock.advance(30)
    bench.engine.lease(A, Member("c-2", "bob"), 35)
    promise(set(await bench.present(A)) == {"c-1", "c-2"}, "a lease holds for ttl_s")
    bench.clock.advance(6)
    left = {"c-2": Member("c-2", "bob")}
    expect("a lease that is not renewed ends after ttl_s", await bench.present(A), left)
    await bench.engine.sweep(lambda channel: KEEP)
    promise(set(await bench.present(A)) == {"c-2"}, "a sweep forgets no lease that holds")
    bench.clock.advance(30)
    promise(await bench.present(A) == {}, "a renewed lease ends too")


# -- copies of other stores ----------------------------------------------------------------------------------


async def a_restored_stream_goes_on_where_it_was(bench: Bench) -> None:
    engine: Any = bench.engine
    if not hasattr(engine, "restore"):
        return  # its streams cannot be copied, which an engine need not offer
    keep = Retention(3, 86_400)
    publisher = Publisher("ann", "c-1", b"[]")
    await bench.fill(A, 4, keep)
    head = await settled(engine.append(A, Message(b"\0", publisher=publisher), keep))
    original = await bench.read(A, EARLIEST, keep)
    moved = [msgspec.structs.replace(one, channel=B) for one in original.publications]
    await engine.restore(B, head, moved[:2])
    await engine.restore(B, head, moved[2:])
    expect(
        "a restored stream reads as the original", await bench.read(B), original._replace(publications=moved)
    )
    expect(
        "streams are listed with their heads", {one async for one in engine.streams()}, {(A, head), (B, head)}
    )
    expect("offsets go on in a restored stream", await bench.append(B, "x"), Position(head.epoch, 6))
    expect("and so do readers", await bench.offsets(B, moved[1].position), [5, 6])


# -- stop ----------------------------------------------------------------------------------------------------


async def stop_finishes_what_was_begun_and_is_idempotent(bench: Bench) -> None:
    answers = [bench.engine.append(A, Message(b"x"), KEEP) for _ in range(50)]
    await bench.engine.stop()
    await bench.engine.stop()
    for answer in answers:
        promise(not isinstance(answer, asyncio.Future) or answer.done(), "stop answers accepted appends")
    offsets = [(await settled(answer)).offset for answer in answers]
    expect("stop finishes accepted appends", offsets, list(range(1, 51)))


async def streams_outlive_the_engine(bench: Bench) -> None:
    keep = Retention(5, 86_400)
    message = Message(b"\0\xff", is_text=False, publisher=Publisher("ann", "c-1", b"[]"))
    await bench.fill(A, 6, keep)
    last = await settled(bench.engine.append(A, message, keep, key="k"))
    before = await bench.read(A, EARLIEST, keep)
    await bench.reopen()
    expect("a reopened store reads as before", await bench.read(A, EARLIEST, keep), before)
    expect("a key holds in a reopened store", await bench.append(A, keep=keep, key="k"), last)
    expect("offsets go on in a reopened store", await bench.append(A, "x", keep), Position(last.epoch, 8))


async def a_trimmed_stream_keeps_its_head_in_a_reopened_store(bench: Bench) -> None:
    keep = Retention(100, 60)
    head = (await bench.fill(A, 3, keep))[-1]
    bench.clock.advance(100)
    await bench.engine.sweep(lambda channel: keep)
    await bench.reopen()
    expect("the head of a trimmed stream", (await bench.read(A, NOW, keep)).head, head)
    expect("offsets go on in a reopened store", await bench.append(A, "x", keep), Position(head.epoch, 4))


async def an_unborn_stream_keeps_its_epoch_in_a_reopened_store(bench: Bench) -> None:
    head = (await bench.read(A, NOW)).head
    await bench.reopen()
    position = await bench.append(A)
    expect("the first append keeps the epoch of the answer before it", position, Position(head.epoch, 1))


async def a_removed_stream_stays_removed_in_a_reopened_store(bench: Bench) -> None:
    head = (await bench.fill(A, 3))[-1]
    await settled(bench.engine.remove(A))
    await bench.reopen()
    result = await bench.read(A)
    expect("a removed stream in a reopened store", (result.publications, result.head), ([], head))
    expect("offsets go on in a reopened store", await bench.append(A, "x"), Position(head.epoch, 4))


DURABLE: Final[tuple[Check, ...]] = (
    streams_outlive_the_engine,
    a_trimmed_stream_keeps_its_head_in_a_reopened_store,
    an_unborn_stream_keeps_its_epoch_in_a_reopened_store,
    a_removed_stream_stays_removed_in_a_reopened_store,
)
"""The promises of an engine whose streams outlive it."""

ENDING: Final[tuple[Check, ...]] = tuple(one for one in checks_in(globals()) if one not in DURABLE)
