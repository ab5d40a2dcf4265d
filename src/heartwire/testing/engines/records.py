"""Checks of stream records: one step with what is appended, on the condition that nothing has changed."""

import asyncio
from typing import Any, Final

import msgspec

from heartwire.core.waiting import settled
from heartwire.engines.contract import Recorded, Retention, StreamWrite
from heartwire.testing.engines.bench import KEEP, A, B, Bench, Check, offsets_of
from heartwire.testing.promises import checks_in, expect, promise
from heartwire.types import ENDED, Channel, Message, Position, Publisher

__all__ = ["DURABLE_RECORDS", "RECORDS", "WHOLE", "change"]

WHOLE: Final = Retention(2**62, 1e9)
"""The retention of a stream with a record."""

_FIRST: Final = 2**52  # a revision


def change(
    expects: int,
    revision: int,
    *texts: str,
    record: bytes | None = b"record",
    ttl_s: float = 0,
    ends_ms: int = 0,
) -> StreamWrite:
    """One that appends these texts."""
    messages = [Message(text.encode()) for text in texts]
    return StreamWrite(expects, revision, record, messages, ttl_s, ends_ms)


async def _write(bench: Bench, made: StreamWrite, channel: Channel = A) -> Recorded:
    return await settled(bench.engine.write(channel, made))


async def _record(bench: Bench, channel: Channel = A) -> Recorded:
    return await settled(bench.engine.record(channel))


async def _texts(bench: Bench, channel: Channel = A) -> list[str]:
    read = await bench.read(channel, keep=WHOLE)
    return [one.data.decode() for one in read.publications]


# -- writing -------------------------------------------------------------------------------------------------


async def a_record_is_kept_as_it_was_written(bench: Bench) -> None:
    none = await _record(bench)
    now_ms = int(bench.clock() * 1000)
    expect(
        "the record of a stream that has none",
        none,
        Recorded(0, b"", Position(none.head.epoch, 0), 0, now_ms),
    )
    data = bytes(range(256)) * 4096
    written = await _write(bench, change(0, _FIRST, record=data, ttl_s=90.5, ends_ms=now_ms + 99_000))
    promise(written.record == data, f"a record of {len(data)} bytes is kept as it was written")
    fields = _FIRST, none.head, now_ms, now_ms, 90.5, now_ms + 99_000
    expect(
        "the answer of a write is the record",
        written._replace(record=b""),
        Recorded(fields[0], b"", *fields[1:]),
    )
    bench.clock.advance(7)
    expect("a record is found later", await _record(bench), written._replace(now_ms=now_ms + 7000))
    expect("each channel has a record of its own", (await _record(bench, B)).revision, 0)


async def what_is_appended_is_kept_with_the_record(bench: Bench) -> None:
    head = (await _write(bench, change(0, _FIRST, "one"))).head
    messages = [
        Message(b"\0\xff", is_text=False),
        Message(b"", publisher=Publisher("ann", "c-1", b"[]"), origin=7),
        Message(b'{"reason":"done"}', publisher=ENDED),
    ]
    written = await _write(bench, StreamWrite(_FIRST, 2, b"second", messages))
    expect("the answer's head is the last of what was appended", written.head, Position(head.epoch, 4))
    read = await bench.read(A, head, WHOLE)
    kept = [Message(one.data, one.is_text, one.publisher) for one in read.publications]
    expect(
        "messages come back as they were", kept, [msgspec.structs.replace(one, origin=0) for one in messages]
    )
    expect("and at consecutive offsets", offsets_of(read.publications), [2, 3, 4])
    expect("their time", {one.time_ms for one in read.publications}, {int(bench.clock() * 1000)})
    expect("the head of a read", read.head, written.head)
    expect(
        "the last is the end of the stream", [one.is_end for one in read.publications], [False, False, True]
    )


async def what_is_appended_is_notified_in_order_before_the_answer(bench: Bench) -> None:
    revision = 0
    for number in range(1, 20):
        written = await _write(bench, change(revision, number, *["x"] * (number % 3)))
        revision = number
        promise(len(bench.notified) == written.head.offset, "a write is answered after it is notified")
    expect("notified once, in order", offsets_of(bench.notified), list(range(1, written.head.offset + 1)))
    await _write(bench, StreamWrite(revision, 99, b"", [Message(b"x", origin=7)]))
    expect("a notification carries the message's origin", bench.notified[-1].origin, 7)
    kept = (await bench.read(A, keep=WHOLE)).publications
    told, found = (
        [msgspec.structs.replace(one, origin=0) for one in some] for some in (bench.notified, kept)
    )
    promise(told == found, "the notifications are the publications")


async def many_messages_are_one_write(bench: Bench) -> None:
    texts = [f"{number}" for number in range(1000)]
    written = await _write(bench, change(0, _FIRST, *texts))
    expect("many messages are appended in one write", written.head.offset, 1000)
    expect("all of them are kept", await _texts(bench), texts)


async def a_write_that_expects_another_revision_changes_nothing(bench: Bench) -> None:
    for expects in (1, _FIRST):
        missed = await _write(bench, change(expects, 5, "lost"))
        expect("a write that expects a record where there is none", missed.revision, 0)
    written = await _write(bench, change(0, _FIRST, "one", record=b"first"))
    for expects in (0, 1, _FIRST - 1):
        for record in (b"lost", None):
            answer = await _write(bench, change(expects, 5, "lost", record=record))
            expect("a write that expects another revision answers what is there", answer, written)
    expect("and changes nothing", await _record(bench), written)
    expect("and appends nothing", await _texts(bench), ["one"])
    expect("and notifies of nothing", offsets_of(bench.notified), [1])


async def a_change_that_is_sent_twice_is_made_once(bench: Bench) -> None:
    revision = 0
    for made in (change(0, _FIRST, "one"), change(_FIRST, 2, "two", "three", record=b"second")):
        first, second = await _write(bench, made), await _write(bench, made)
        expect("a change that is sent twice has the same answer", second, first)
        revision = second.revision
    expect("and is made once", await _texts(bench), ["one", "two", "three"])
    ended = await _write(bench, change(revision, 3, record=None))
    again = await _write(bench, change(revision, 3, record=None))
    expect("an end that is sent twice is made once", again, ended)


async def of_writers_that_race_one_wins(bench: Bench) -> None:
    revision = 0
    for turn in range(10):
        changes = [change(revision, 10 * turn + number, f"{turn}") for number in range(1, 9)]
        answers = [bench.engine.write(A, made) for made in changes]
        revisions = {(await settled(answer)).revision for answer in answers}
        promise(len(revisions) == 1, f"of writers that race one wins, not {revisions}")
        [revision] = revisions
    expect("and the others append nothing", await _texts(bench), [f"{turn}" for turn in range(10)])


async def writes_are_applied_in_the_order_of_calls(bench: Bench) -> None:
    engine = bench.engine
    answers: list[Any] = [
        engine.write(A, change(0, 1, "one")),
        engine.write(B, change(0, 1, "other")),
        engine.write(A, change(1, 2, "two")),
        engine.write(A, change(2, 3, record=None)),
        engine.append(A, Message(b"three"), KEEP),
        engine.write(A, change(0, 4)),
        engine.append(B, Message(b"last"), KEEP),
    ]
    first, other, second, ended, between, begun, last = [await settled(answer) for answer in answers]
    expect("the head after each", [one.head.offset for one in (first, second, ended, begun)], [1, 2, 0, 0])
    expect("the revision after each", [one.revision for one in (first, second, ended, begun)], [1, 2, 0, 4])
    promise(ended.head.epoch != second.head.epoch, "the epoch of a stream ends with its record")
    expect("an append between two writes", between, Position(ended.head.epoch, 1))
    promise(begun.head.epoch != ended.head.epoch, "is forgotten by the record that begins after it")
    expect("and one after another write", last, Position(other.head.epoch, 2))
    expect("what is kept after all of them", await _texts(bench), [])


async def cancelling_does_not_undo_a_write(bench: Bench) -> None:
    answer = bench.engine.write(A, change(0, 1, "one"))
    if isinstance(answer, asyncio.Future):
        answer.cancel()
    written = await _write(bench, change(1, 2, "two"))
    expect("a cancelled write is made all the same", (written.revision, written.head.offset), (2, 2))
    expect("and notified", offsets_of(bench.notified), [1, 2])


# -- the end of a record -------------------------------------------------------------------------------------


async def a_record_that_ends_takes_its_publications(bench: Bench) -> None:
    written = await _write(bench, change(0, 1, "one", "two"))
    await _write(bench, change(0, 1, "other"), B)
    ended = await _write(bench, change(1, 2, record=None))
    expect("an ended record", (ended.revision, ended.record, ended.head.offset), (0, b"", 0))
    promise(ended.head.epoch != written.head.epoch, "the epoch of a stream ends with its record")
    read = await bench.read(A, written.head, WHOLE)
    expect("publications of an ended record", (read.publications, read.head), ([], ended.head))
    promise(not read.recovered, "a reader of an ended stream learns of it")
    again = await _write(bench, change(0, 3, "new"))
    expect("a stream goes on in the epoch that was answered", again.head, Position(ended.head.epoch, 1))
    expect("without what was before", await _texts(bench), ["new"])
    expect("other streams are as they were", await _texts(bench, B), ["other"])


async def a_stream_never_comes_back_in_an_epoch_it_had(bench: Bench) -> None:
    epochs = [(await bench.append(A)).epoch]
    for _ in range(4):
        epochs.append((await _write(bench, change(0, 1, "x"))).head.epoch)
        await _write(bench, change(1, 2, record=None))
        epochs.append((await bench.append(A)).epoch)
        await bench.engine.sweep(lambda channel: KEEP)
    expect("each record has an epoch of its own", len(set(epochs[::2])), 5)
    expect("and so have the streams after each", len(set(epochs)), 9)


async def a_record_that_begins_forgets_earlier_publications(bench: Bench) -> None:
    before = (await bench.fill(A, 3))[-1]
    found = await _record(bench)
    expect("publications are no record", (found.revision, found.head), (0, before))
    written = await _write(bench, change(0, 1, "one"))
    promise(written.head.epoch != before.epoch, "a record that begins ends the epoch before it")
    expect("and its own counts from 1", written.head.offset, 1)
    expect("and has its own publications only", await _texts(bench), ["one"])
    promise(not (await bench.read(A, before, WHOLE)).recovered, "a reader of those before it learns of it")


# -- lifetimes -----------------------------------------------------------------------------------------------


async def a_record_that_is_not_used_ends(bench: Bench) -> None:
    written = await _write(bench, change(0, 1, "one", ttl_s=60))
    bench.clock.advance(59)
    expect("a record holds for ttl_s", (await _record(bench)).revision, 1)
    bench.engine.touch(A)
    await _record(bench)  # a store in another process has it now
    bench.clock.advance(59)
    found = await _record(bench)
    expect(
        "a touch begins it anew, and is no write", (found.revision, found.written_ms), (1, written.written_ms)
    )
    await _write(bench, change(1, 2, "two", ttl_s=60))
    bench.clock.advance(59)
    expect("so does a write", (await _record(bench)).revision, 2)
    bench.clock.advance(2)
    expect("a record ends ttl_s after its last use", (await _record(bench)).revision, 0)
    expect("what it was is expected by nobody", (await _write(bench, change(2, 3, "lost"))).revision, 0)
    bench.engine.touch(A)
    again = await _write(bench, change(0, 4, "new"))
    promise(again.head.epoch != written.head.epoch, "another epoch begins after a record that has ended")
    expect("and has its own publications only", await _texts(bench), ["new"])
    bench.clock.advance(1_000_000)
    expect("a record without a time has no end", (await _record(bench)).revision, 4)


async def a_record_ends_at_its_time(bench: Bench) -> None:
    ends_ms = int(bench.clock() * 1000) + 60_000
    await _write(bench, change(0, 1, "one", ends_ms=ends_ms))
    bench.clock.advance(59)
    bench.engine.touch(A)
    expect("a record holds until ends_ms", (await _record(bench)).revision, 1)
    bench.clock.advance(2)
    expect("and ends then, used or not", (await _record(bench)).revision, 0)


async def a_touch_without_a_record_has_no_effect(bench: Bench) -> None:
    bench.engine.touch(A)
    expect("a touch without a record", (await _record(bench)).revision, 0)
    await bench.append(A, "x")
    bench.engine.touch(A)
    expect("or of publications without one", await bench.texts(A), ["x"])


async def a_sweep_forgets_what_has_ended_and_nothing_else(bench: Bench) -> None:
    for number in range(5):
        await _write(bench, change(0, 1, "x", ttl_s=60), Channel(f"ended {number}"))
    written = await _write(bench, change(0, 1, "x", "y", ttl_s=90 * 86_400))
    bench.clock.advance(40 * 86_400)
    for _ in range(3):
        await bench.engine.sweep(lambda channel: Retention(1, 1))
    for number in range(5):
        channel = Channel(f"ended {number}")
        read = await bench.read(channel, keep=WHOLE)
        expect("a sweep forgets ended records with their publications", read.publications, [])
        expect("and nothing of them is left", read.head.offset, 0)
    found = await _record(bench)
    expect(
        "a record that holds is kept, whatever its channel keeps",
        found._replace(now_ms=0),
        written._replace(now_ms=0),
    )
    expect("and so are its publications", await _texts(bench), ["x", "y"])


# -- copies of other stores ----------------------------------------------------------------------------------


async def a_restored_record_is_the_same(bench: Bench) -> None:
    engine: Any = bench.engine
    if not hasattr(engine, "restore"):
        return  # its streams cannot be copied, which an engine need not offer
    original = await _write(bench, change(0, _FIRST, "one", "two", "three", record=b"\0\xff", ttl_s=60))
    read = await bench.read(A, keep=WHOLE)
    moved = [msgspec.structs.replace(one, channel=B) for one in read.publications]
    bench.clock.advance(40)
    await engine.restore(B, original.head, moved[:2], original)
    await engine.restore(B, original.head, moved[2:])
    bench.clock.advance(40)
    found = await _record(bench, B)
    now_ms = int(bench.clock() * 1000)
    expected = original._replace(now_ms=now_ms, written_ms=now_ms - 40_000)
    expect("a restored record is the same, and its time begins anew", found, expected)
    expect("and so are its publications", (await bench.read(B, keep=WHOLE)).publications, moved)
    listed = {channel async for channel, _ in engine.streams()}
    expect("streams whose record has ended are not listed", listed, {B})
    written = await _write(bench, change(_FIRST, 2, "four"), B)
    expect("a restored stream goes on", written.head, Position(original.head.epoch, 4))


# -- stores that are opened again ----------------------------------------------------------------------------


async def a_record_outlives_the_engine(bench: Bench) -> None:
    ends_ms = int(bench.clock() * 1000) + 10**9
    await _write(bench, change(0, 1, "one", record=b"\0", ttl_s=60))
    before = await _write(bench, change(1, _FIRST, "two", record=b"\0\xff", ttl_s=60, ends_ms=ends_ms))
    await _write(bench, change(0, 1, "gone"), B)
    ended = await _write(bench, change(1, 2, record=None), B)
    await bench.reopen()
    expect("a record in a reopened store", await _record(bench), before)
    expect("and its publications", await _texts(bench), ["one", "two"])
    expect("an ended record stays ended", (await _record(bench, B))[:3], ended[:3])
    expect("a change that was made is known", await _write(bench, change(1, _FIRST, "lost")), before)
    written = await _write(bench, change(_FIRST, 3, "three", ttl_s=60))
    expect("a write goes on in a reopened store", written.head, Position(before.head.epoch, 3))
    bench.clock.advance(40)
    bench.engine.touch(A)
    await _record(bench)
    await bench.reopen()
    bench.clock.advance(40)
    expect("a touch holds in a reopened store", (await _record(bench)).revision, 3)
    bench.clock.advance(30)
    expect("a record ends in a reopened store", (await _record(bench)).revision, 0)


DURABLE_RECORDS: Final[tuple[Check, ...]] = (a_record_outlives_the_engine,)
"""The promises of an engine whose streams outlive it."""

RECORDS: Final[tuple[Check, ...]] = tuple(one for one in checks_in(globals()) if one not in DURABLE_RECORDS)
