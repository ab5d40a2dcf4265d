"""Checks of `Engine.append`: offsets, order, notifications, and idempotency keys."""

import asyncio
import math
import threading
from typing import Final

from heartwire.core.waiting import settled
from heartwire.engines.contract import Retention
from heartwire.testing.engines.bench import KEEP, A, B, Bench, Check, offsets_of
from heartwire.testing.promises import PromiseBroken, checks_in, expect, promise
from heartwire.types import Channel, Message, Position, Publisher

__all__ = ["APPENDING"]


async def offsets_count_from_one_without_holes(bench: Bench) -> None:
    positions = await bench.fill(A, 20)
    offsets = [position.offset for position in positions]
    expect("offsets count 1, 2, 3 ... without holes", offsets, list(range(1, 21)))
    epochs = {position.epoch for position in positions}
    promise(len(epochs) == 1, f"a stream that was not lost keeps its epoch, but has {epochs}")
    token = str(positions[-1])
    try:
        parsed = Position.parse(token)
    except ValueError:
        raise PromiseBroken(f"an epoch is 1-32 of A-Z a-z 0-9 _ -, but {token!r} is not a token") from None
    expect("a position survives its token", parsed, positions[-1])


async def channels_count_by_themselves(bench: Bench) -> None:
    await bench.fill(A, 3)
    position = await bench.append(B)
    expect("each channel counts by itself", position.offset, 1)
    other = (await bench.read(A)).head.epoch
    promise(position.epoch != other, f"each channel has an epoch of its own, both have {other!r}")
    promise(len((await bench.read(B)).publications) == 1, "a read shows its own channel's publications only")


async def concurrent_appends_share_no_offset(bench: Bench) -> None:
    async def caller(number: int) -> list[Position]:
        return [await bench.append(A, f"{number} {turn}") for turn in range(25)]

    answers = await asyncio.gather(*(caller(number) for number in range(8)))
    offsets = sorted(position.offset for positions in answers for position in positions)
    expect("concurrent appends get offsets 1 to n, each once", offsets, list(range(1, 201)))
    kept = {one.position: one.data.decode() for one in (await bench.read(A)).publications}
    for number, positions in enumerate(answers):
        for turn, position in enumerate(positions):
            expect(f"the publication answered with {position}", kept.get(position), f"{number} {turn}")


async def appends_are_applied_in_the_order_of_calls(bench: Bench) -> None:
    calls = [(channel, f"{turn}") for turn in range(150) for channel in (A, B)]
    answers = [bench.engine.append(channel, Message(text.encode()), KEEP) for channel, text in calls]
    for (_channel, text), answer in zip(calls, answers, strict=True):
        offset = (await settled(answer)).offset
        expect("appends of one caller are applied in the order of calls", offset, int(text) + 1)
    for channel in (A, B):
        texts = [f"{turn}" for turn in range(150)]
        expect(f"{channel!r} is kept in the order of calls", await bench.texts(channel), texts)


async def an_answered_append_can_be_read(bench: Bench) -> None:
    for number in range(1, 30):
        position = await bench.append(A, f"{number}")
        result = await bench.read(A, Position(position.epoch, position.offset - 1))
        expect("a read after the answer shows the append", offsets_of(result.publications), [number])
        expect("head is the last answered position", result.head, position)


async def cancelling_does_not_undo_an_append(bench: Bench) -> None:
    answer = bench.engine.append(A, Message(b"1"), KEEP)
    if isinstance(answer, asyncio.Future):
        answer.cancel()
    expect("a cancelled append is applied all the same", (await bench.append(A, "2")).offset, 2)
    expect("a cancelled append is notified", offsets_of(bench.notified), [1, 2])


async def every_publication_is_notified_once_in_order_before_its_answer(bench: Bench) -> None:
    async def caller(channel: Channel) -> None:
        for _ in range(25):
            position = await bench.append(channel)
            is_notified = position in {one.position for one in bench.notified}
            promise(is_notified, f"{position} was answered before it was notified")

    await asyncio.gather(*(caller(channel) for channel in (A, B) for _ in range(4)))
    for channel in (A, B):
        notified = [publication for publication in bench.notified if publication.channel == channel]
        expect("notified once, in order", offsets_of(notified), list(range(1, 101)))
        kept = (await bench.read(channel)).publications
        promise(notified == kept, f"the notifications of {channel!r} differ from its publications")
    promise(bench.threads == {threading.get_ident()}, "notify is called on the event loop's thread")


async def a_notification_carries_where_it_came_in(bench: Bench) -> None:
    await settled(bench.engine.append(A, Message(b"x", origin=7), KEEP))
    expect("a notification carries the message's origin", bench.notified[0].origin, 7)


async def publications_come_back_as_they_were(bench: Bench) -> None:
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    messages = [
        Message(b""),
        Message(b"", is_text=False),
        Message(b"\0a\0b\0"),
        Message(bytes(range(256)) * 4096, is_text=False),
        Message(everything.encode(), publisher=Publisher("ann", "c-1", b'{"age":7}')),
        Message(b"x", publisher=Publisher()),
        Message(b"x", publisher=Publisher("", "client", None)),
        Message(b"x", publisher=Publisher("\0'\"\u20ac", "", b"")),
    ]
    for message in messages:
        await settled(bench.engine.append(A, message, KEEP))
    result = await bench.read(A)
    promise(len(result.publications) == len(messages), "every message is kept")
    for message, kept in zip(messages, result.publications, strict=True):
        what = f"message {kept.offset}"
        promise(kept.data == message.data, f"{what}: its {len(message.data)} bytes came back as others")
        promise(kept.is_text is message.is_text, f"{what}: is_text came back as {kept.is_text!r}")
        expect(f"{what}: publisher", kept.publisher, message.publisher)
        expect(f"{what}: channel", kept.channel, A)
        expect(f"{what}: epoch", kept.epoch, result.head.epoch)
        expect(f"{what}: time_ms is the clock's at the append", kept.time_ms, int(bench.clock() * 1000))


async def any_channel_name_is_a_channel(bench: Bench) -> None:
    names = [*"%_A \\ü💬~-", "a'b", 'a"b', "a:b:c", "u\u0308", "é" * 127, "x" * 255]
    for number, name in enumerate(names):
        await bench.append(Channel(name), f"{number}")
    for number, name in enumerate(names):
        texts = await bench.texts(Channel(name))
        expect(f"channel {name!r} is kept apart from others", texts, [f"{number}"])


# -- idempotency keys ----------------------------------------------------------------------------------------


async def a_key_appends_once(bench: Bench) -> None:
    first = await bench.append(A, "one", key="k")
    await bench.append(A, "two")
    expect("the same key answers the first position", await bench.append(A, "three", key="k"), first)
    expect("the same key appends nothing", await bench.texts(A), ["one", "two"])
    promise(offsets_of(bench.notified) == [1, 2], "the same key notifies of nothing")


async def a_key_holds_in_its_channel_only(bench: Bench) -> None:
    await bench.append(A, key="k")
    position = await bench.append(B, key="k")
    expect("a key of one channel means nothing in another", [one.channel for one in bench.notified], [A, B])
    promise(position == (await bench.read(B)).head, "a key answers a position of its own channel")


async def a_key_is_forgotten_after_its_time(bench: Bench) -> None:
    first = await bench.append(A, key="k", key_ttl_s=60)
    bench.clock.advance(59)
    again = await bench.append(A, key="k", key_ttl_s=60)
    expect("a key holds for key_ttl_s after its first use", again, first)
    bench.clock.advance(2)  # 61 s after its first use: a second use did not renew it
    second = await bench.append(A, key="k", key_ttl_s=60)
    expect("a key is forgotten key_ttl_s after its first use", second.offset, 2)
    bench.clock.advance(59)
    again = await bench.append(A, key="k", key_ttl_s=60)
    expect("a key that was forgotten can be used again", again, second)


async def keys_of_different_lives_do_not_hide_each_other(bench: Bench) -> None:
    long = await bench.append(A, key="long", key_ttl_s=300)
    await bench.append(A, key="short", key_ttl_s=10)
    bench.clock.advance(11)
    promise(await bench.append(A, key="long", key_ttl_s=300) == long, "a key holds for its own key_ttl_s")
    third = await bench.append(A, key="short", key_ttl_s=10)
    expect("a key is forgotten after its own key_ttl_s", third.offset, 3)
    bench.clock.advance(9)
    again = await bench.append(A, key="short", key_ttl_s=10)
    expect("a key that is used again holds from then on", again, third)
    bench.clock.advance(1_000)
    fresh = [(await bench.append(A, key=key)).offset for key in ("long", "short")]
    expect("every key is forgotten in the end", fresh, [4, 5])


async def a_key_outlives_its_publication(bench: Bench) -> None:
    keep = Retention(2, 86_400)
    first = await bench.append(A, "one", keep, key="k")
    await bench.fill(A, 5, keep)
    expect("a key answers though its publication is trimmed", await bench.append(A, key="k"), first)


async def one_key_at_one_time_appends_once(bench: Bench) -> None:
    answers = await asyncio.gather(*(bench.append(A, f"{number}", key="k") for number in range(20)))
    promise(len(set(answers)) == 1, f"concurrent appends with one key get one position, not {set(answers)}")
    promise(offsets_of(bench.notified) == [1], "concurrent appends with one key append once")


async def a_key_can_be_kept_for_ever(bench: Bench) -> None:
    first = await bench.append(A, key="k", key_ttl_s=math.inf)
    for _ in range(3):
        bench.clock.advance(40 * 86_400)
        await bench.engine.sweep(lambda channel: KEEP)
    promise(await bench.append(A, key="k", key_ttl_s=math.inf) == first, "a key without an end holds")


APPENDING: Final[tuple[Check, ...]] = checks_in(globals())
