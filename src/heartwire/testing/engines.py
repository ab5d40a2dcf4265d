"""The contract of `heartwire.engines.base.Engine` as a suite that any engine can be put through, ours or yours.

Each check is a promise of the contract, told when it is broken. A check asks for nothing an engine on another machine could
not give: it awaits answers, reads time from the clock it was handed, and lets no real time pass.
"""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from heartwire.engines.base import Clock, Engine, ReadResult, Retention, settled
from heartwire.testing.clock import FakeClock
from heartwire.types import EARLIEST, NOW, Channel, Member, Message, Position, Publication, Publisher, Start

__all__ = ["CHECKS", "DURABLE_CHECKS", "Bench", "Check", "PromiseBroken", "check_engine"]

EngineT = TypeVar("EngineT", bound=Engine)

KEEP: Final = Retention(history_size=10_000, history_ttl_s=86_400)
ANSWER_S: Final = 30
"""How long a whole check may take; an engine that does not answer at all is told so instead of waited for."""

A: Final = Channel("a")
B: Final = Channel("b")


class PromiseBroken(AssertionError):
    """An engine that does not do what `Engine` promises. The message says which promise, and what came instead."""


def promise(kept: bool, told: str) -> None:
    """Raise `PromiseBroken` unless a promise was kept."""
    if not kept:
        raise PromiseBroken(told)


class Bench:
    """A fresh engine that has been started, the clock it reads, and what it has notified of."""

    def __init__(self, engine: Engine, clock: FakeClock, reopen: Callable[[], Engine] | None) -> None:
        self.engine = engine
        self.clock = clock
        self.notified: list[Publication] = []
        self.threads: set[int] = set()
        self._reopen = reopen

    def notify(self, publication: Publication) -> None:
        """What the engine is started with."""
        self.notified.append(publication)
        self.threads.add(threading.get_ident())

    async def append(
        self, channel: Channel, text: str | bytes = "", keep: Retention = KEEP, *, key: str | None = None, key_ttl_s: float = 300
    ) -> Position:
        """Append one message and await its position."""
        message = Message(text.encode() if isinstance(text, str) else text, isinstance(text, str))
        return await settled(self.engine.append(channel, message, keep, key=key, key_ttl_s=key_ttl_s))

    async def fill(self, channel: Channel, count: int, keep: Retention = KEEP) -> list[Position]:
        """Append ``count`` small messages."""
        return [await self.append(channel, f"{number}", keep) for number in range(1, count + 1)]

    async def read(
        self, channel: Channel, start: Start = EARLIEST, keep: Retention = KEEP, *, limit: int = 1000, max_bytes: int = 1 << 30
    ) -> ReadResult:
        """Read and await the answer."""
        return await settled(self.engine.read(channel, start, keep, limit=limit, max_bytes=max_bytes))

    async def reopen(self) -> None:
        """Stop the engine, and go on with another one on the same store."""
        assert self._reopen is not None
        await self.engine.stop()
        self.engine = self._reopen()
        await self.engine.start(self.notify)


Check = Callable[[Bench], Awaitable[None]]
"""Raises `PromiseBroken`. Its name says what is promised."""


async def check_engine(
    factory: Callable[[Clock], EngineT],
    *,
    reopen: Callable[[EngineT, Clock], EngineT] | None = None,
    checks: Sequence[Check] | None = None,
) -> None:
    """Put an engine through the contract, each check on a fresh one.

    Args:
        factory: makes an engine with an empty store, not started, that reads the time from the given clock.
        reopen: makes another engine on the store of a stopped one; for engines whose streams outlive them.
        checks: which checks; default: `CHECKS`, and with ``reopen`` also `DURABLE_CHECKS`.
    Raises:
        PromiseBroken: at the first promise that is not kept.
    """
    if checks is None:
        checks = CHECKS + (DURABLE_CHECKS if reopen is not None else ())
    for check in checks:
        clock = FakeClock()
        engine = factory(clock)
        again = None if reopen is None else _again(reopen, engine, clock)
        bench = Bench(engine, clock, again)
        await engine.start(bench.notify)
        try:
            async with asyncio.timeout(ANSWER_S):
                await check(bench)
        except TimeoutError:
            raise PromiseBroken(f"{_name(check)}: no answer within {ANSWER_S} s") from None
        finally:
            await bench.engine.stop()


def _again(reopen: Callable[[EngineT, Clock], EngineT], engine: EngineT, clock: Clock) -> Callable[[], Engine]:
    return lambda: reopen(engine, clock)


def _name(check: Check) -> str:
    return getattr(check, "__name__", repr(check))


def _offsets(publications: Sequence[Publication]) -> list[int]:
    return [publication.offset for publication in publications]


def _told(what: str, got: object, expected: object) -> str:
    return f"{what}: got {got!r:.300}, expected {expected!r:.300}"


# -- append -----------------------------------------------------------------------------------------------------------


async def offsets_count_from_one_without_holes(bench: Bench) -> None:
    positions = await bench.fill(A, 20)
    offsets = [position.offset for position in positions]
    promise(offsets == list(range(1, 21)), _told("offsets count 1, 2, 3 ... without holes", offsets, "1 to 20"))
    epochs = {position.epoch for position in positions}
    promise(len(epochs) == 1, _told("a stream that was not lost keeps its epoch", epochs, "one epoch"))
    token = str(positions[-1])
    try:
        parsed = Position.parse(token)
    except ValueError:
        raise PromiseBroken(f"an epoch is 1-32 of A-Z a-z 0-9 _ -, so that {token!r} can be a token") from None
    promise(parsed == positions[-1], _told("a position survives its token", parsed, positions[-1]))


async def channels_count_by_themselves(bench: Bench) -> None:
    await bench.fill(A, 3)
    position = await bench.append(B)
    promise(position.offset == 1, _told("each channel counts by itself", position.offset, 1))
    other = (await bench.read(A)).head.epoch
    promise(position.epoch != other, f"each channel has an epoch of its own, both have {other!r}")
    promise(len((await bench.read(B)).publications) == 1, "a read shows its own channel's publications only")


async def concurrent_appends_share_no_offset(bench: Bench) -> None:
    async def caller(number: int) -> list[Position]:
        return [await bench.append(A, f"{number} {turn}") for turn in range(25)]

    answers = await asyncio.gather(*(caller(number) for number in range(8)))
    offsets = sorted(position.offset for positions in answers for position in positions)
    promise(offsets == list(range(1, 201)), _told("concurrent appends get offsets 1 to n, each once", offsets, "1 to 200"))
    kept = {publication.position: publication.data.decode() for publication in (await bench.read(A)).publications}
    for number, positions in enumerate(answers):
        for turn, position in enumerate(positions):
            promise(kept.get(position) == f"{number} {turn}", f"what is kept at {position} is not what was answered with it")


async def appends_are_applied_in_the_order_of_calls(bench: Bench) -> None:
    calls = [(channel, f"{turn}") for turn in range(150) for channel in (A, B)]
    answers = [bench.engine.append(channel, Message(text.encode()), KEEP) for channel, text in calls]
    for (_channel, text), answer in zip(calls, answers, strict=True):
        offset = (await settled(answer)).offset
        promise(offset == int(text) + 1, _told("appends of one caller are applied in the order of calls", offset, int(text) + 1))
    for channel in (A, B):
        texts = [publication.data.decode() for publication in (await bench.read(channel)).publications]
        promise(texts == [f"{turn}" for turn in range(150)], f"what is kept in {channel!r} is not in the order of calls")


async def an_answered_append_can_be_read(bench: Bench) -> None:
    for number in range(1, 30):
        position = await bench.append(A, f"{number}")
        result = await bench.read(A, Position(position.epoch, position.offset - 1))
        promise(_offsets(result.publications) == [number], f"a read after the answer does not show {position}")
        promise(result.head == position, _told("head is the last answered position", result.head, position))


async def cancelling_does_not_undo_an_append(bench: Bench) -> None:
    answer = bench.engine.append(A, Message(b"1"), KEEP)
    if isinstance(answer, asyncio.Future):
        answer.cancel()
    position = await bench.append(A, "2")
    promise(position.offset == 2, _told("a cancelled append is applied all the same", position.offset, 2))
    promise(_offsets(bench.notified) == [1, 2], _told("a cancelled append is notified", _offsets(bench.notified), [1, 2]))


async def every_publication_is_notified_once_in_order_before_its_answer(bench: Bench) -> None:
    async def caller(channel: Channel) -> None:
        for _ in range(25):
            position = await bench.append(channel)
            promise(position in {told.position for told in bench.notified}, f"{position} was answered before it was notified")

    await asyncio.gather(*(caller(channel) for channel in (A, B) for _ in range(4)))
    for channel in (A, B):
        told = [publication for publication in bench.notified if publication.channel == channel]
        promise(_offsets(told) == list(range(1, 101)), _told("notified once, in order", _offsets(told), "1 to 100"))
        promise(told == (await bench.read(channel)).publications, f"what was notified of {channel!r} is not what is kept")
    promise(bench.threads == {threading.get_ident()}, "notify is called on the event loop's thread")


async def a_notification_carries_where_it_came_in(bench: Bench) -> None:
    await settled(bench.engine.append(A, Message(b"x", origin=7), KEEP))
    promise(bench.notified[0].origin == 7, _told("a notification carries the message's origin", bench.notified[0].origin, 7))


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
        promise(kept.is_text is message.is_text, _told(f"{what}: is_text", kept.is_text, message.is_text))
        promise(kept.publisher == message.publisher, _told(f"{what}: publisher", kept.publisher, message.publisher))
        promise(kept.channel == A, _told(f"{what}: channel", kept.channel, A))
        promise(kept.epoch == result.head.epoch, _told(f"{what}: epoch", kept.epoch, result.head.epoch))
        now_ms = int(bench.clock() * 1000)
        promise(kept.time_ms == now_ms, _told(f"{what}: time_ms is the clock's when it was appended", kept.time_ms, now_ms))


async def any_channel_name_is_a_channel(bench: Bench) -> None:
    names = ["%", "_", "a'b", 'a"b', "A", " ", "a:b:c", "\\", "ü", "u\u0308", "💬", "~", "-", "é" * 127, "x" * 255]
    for number, name in enumerate(names):
        await bench.append(Channel(name), f"{number}")
    for number, name in enumerate(names):
        texts = [publication.data for publication in (await bench.read(Channel(name))).publications]
        promise(texts == [b"%d" % number], _told(f"channel {name!r} is kept apart from others", texts, number))


# -- idempotency keys -------------------------------------------------------------------------------------------------


async def a_key_appends_once(bench: Bench) -> None:
    first = await bench.append(A, "one", key="k")
    await bench.append(A, "two")
    again = await bench.append(A, "three", key="k")
    promise(again == first, _told("the same key answers the first position", again, first))
    kept = [publication.data for publication in (await bench.read(A)).publications]
    promise(kept == [b"one", b"two"], _told("the same key appends nothing", kept, [b"one", b"two"]))
    promise(_offsets(bench.notified) == [1, 2], "the same key notifies of nothing")


async def a_key_holds_in_its_channel_only(bench: Bench) -> None:
    await bench.append(A, key="k")
    position = await bench.append(B, key="k")
    promise([told.channel for told in bench.notified] == [A, B], "a key of one channel says nothing in another")
    promise(position == (await bench.read(B)).head, "a key answers a position of its own channel")


async def a_key_is_forgotten_after_its_time(bench: Bench) -> None:
    first = await bench.append(A, key="k", key_ttl_s=60)
    bench.clock.advance(59)
    promise(await bench.append(A, key="k", key_ttl_s=60) == first, "a key holds for key_ttl_s after its first use")
    bench.clock.advance(2)  # 61 s after its first use: a second use did not renew it
    second = await bench.append(A, key="k", key_ttl_s=60)
    promise(second.offset == 2, _told("a key is forgotten key_ttl_s after its first use", second.offset, 2))
    bench.clock.advance(59)
    promise(await bench.append(A, key="k", key_ttl_s=60) == second, "a key that was forgotten can be used anew")


async def keys_of_different_lives_do_not_hide_each_other(bench: Bench) -> None:
    long = await bench.append(A, key="long", key_ttl_s=300)
    await bench.append(A, key="short", key_ttl_s=10)
    bench.clock.advance(11)
    promise(await bench.append(A, key="long", key_ttl_s=300) == long, "a key holds for its own key_ttl_s")
    third = await bench.append(A, key="short", key_ttl_s=10)
    promise(third.offset == 3, _told("a key is forgotten after its own key_ttl_s", third.offset, 3))
    bench.clock.advance(9)
    promise(await bench.append(A, key="short", key_ttl_s=10) == third, "a key that was used anew holds from then on")
    bench.clock.advance(1_000)
    fresh = [(await bench.append(A, key=key)).offset for key in ("long", "short")]
    promise(fresh == [4, 5], _told("every key is forgotten in the end", fresh, [4, 5]))


async def a_key_outlives_its_publication(bench: Bench) -> None:
    keep = Retention(2, 86_400)
    first = await bench.append(A, "one", keep, key="k")
    await bench.fill(A, 5, keep)
    promise(await bench.append(A, "one", keep, key="k") == first, "a key answers though its publication is trimmed")


async def one_key_at_one_time_appends_once(bench: Bench) -> None:
    answers = await asyncio.gather(*(bench.append(A, f"{number}", key="k") for number in range(20)))
    promise(len(set(answers)) == 1, _told("concurrent appends with one key get one position", set(answers), "one"))
    promise(_offsets(bench.notified) == [1], "concurrent appends with one key append once")


async def a_key_can_be_kept_for_ever(bench: Bench) -> None:
    first = await bench.append(A, key="k", key_ttl_s=math.inf)
    for _ in range(3):
        bench.clock.advance(40 * 86_400)
        await bench.engine.sweep(lambda channel: KEEP)
    promise(await bench.append(A, key="k", key_ttl_s=math.inf) == first, "a key without an end holds")


# -- read -------------------------------------------------------------------------------------------------------------


async def a_read_goes_on_after_a_position(bench: Bench) -> None:
    positions = await bench.fill(A, 10)
    for start in (Position(positions[0].epoch, 0), *positions):
        result = await bench.read(A, start)
        expected = list(range(start.offset + 1, 11))
        promise(_offsets(result.publications) == expected, _told(f"a read after {start}", _offsets(result.publications), expected))
        promise(result.recovered, f"{start} can be continued, so recovered is true")
        promise(result.start == start, _told(f"a read after {start} starts there", result.start, start))
        promise(result.head == positions[-1], _told("head", result.head, positions[-1]))


async def a_read_from_the_earliest_has_everything(bench: Bench) -> None:
    positions = await bench.fill(A, 5)
    result = await bench.read(A, EARLIEST)
    promise(_offsets(result.publications) == [1, 2, 3, 4, 5], _told("EARLIEST", _offsets(result.publications), "1 to 5"))
    start = Position(positions[0].epoch, 0)
    promise(result.start == start, _told("EARLIEST starts before the oldest that is kept", result.start, start))
    promise(result.recovered, "EARLIEST can always be continued")


async def a_read_from_now_tells_the_head(bench: Bench) -> None:
    head = (await bench.fill(A, 5))[-1]
    result = await bench.read(A, NOW)
    promise(result.publications == [], "NOW reads nothing")
    promise((result.start, result.head) == (head, head), _told("NOW starts at the head", result.start, head))
    promise(result.recovered, "NOW can always be continued")


async def a_read_obeys_its_limit(bench: Bench) -> None:
    head = (await bench.fill(A, 10))[-1]
    for limit in (0, 1, 4, 10, 11):
        result = await bench.read(A, EARLIEST, limit=limit)
        expected = list(range(1, min(limit, 10) + 1))
        promise(_offsets(result.publications) == expected, _told(f"limit={limit}", _offsets(result.publications), expected))
        promise(result.head == head, _told("head is the stream's, not the last read", result.head, head))
        promise((result.start.offset, result.recovered) == (0, True), "a limit changes nothing but the number of items")


async def a_read_obeys_its_bytes(bench: Bench) -> None:
    for _ in range(5):
        await bench.append(A, "x" * 100)
    for max_bytes, count in ((1, 1), (100, 1), (101, 2), (250, 3), (499, 5), (10_000, 5)):
        got = len((await bench.read(A, EARLIEST, max_bytes=max_bytes)).publications)
        promise(got == count, _told(f"items read until max_bytes={max_bytes} are reached", got, count))


async def pages_make_a_whole(bench: Bench) -> None:
    await bench.fill(A, 50)
    seen: list[int] = []
    result = await bench.read(A, EARLIEST, limit=7)
    while result.publications:
        seen += _offsets(result.publications)
        result = await bench.read(A, result.publications[-1].position, limit=7)
    promise(seen == list(range(1, 51)), _told("reading on after the last of each page", seen, "1 to 50"))


# -- retention --------------------------------------------------------------------------------------------------------


async def a_stream_is_trimmed_by_size(bench: Bench) -> None:
    keep = Retention(3, 86_400)
    await bench.fill(A, 10, keep)
    result = await bench.read(A, EARLIEST, keep)
    promise(_offsets(result.publications) == [8, 9, 10], _told("history_size=3", _offsets(result.publications), [8, 9, 10]))
    promise(result.start.offset == 7, _told("EARLIEST starts before the oldest that is kept", result.start.offset, 7))


async def a_stream_is_trimmed_by_age(bench: Bench) -> None:
    keep = Retention(100, 60)
    for _ in range(4):  # at 0, 20, 40 and 60 s
        await bench.append(A, "x", keep)
        bench.clock.advance(20)
    result = await bench.read(A, EARLIEST, keep)  # at 80 s
    promise(_offsets(result.publications)[-2:] == [3, 4], "what is younger than history_ttl_s is kept")
    bench.clock.advance(1)
    result = await bench.read(A, EARLIEST, keep)
    promise(_offsets(result.publications) == [3, 4], _told("older than history_ttl_s", _offsets(result.publications), [3, 4]))
    promise(result.start.offset == 2, _told("EARLIEST starts before the oldest that is kept", result.start.offset, 2))


async def a_stream_can_be_kept_for_ever(bench: Bench) -> None:
    keep = Retention(10**30, math.inf)
    await bench.fill(A, 3, keep)
    bench.clock.advance(1000 * 86_400)
    result = await bench.read(A, EARLIEST, keep)
    promise(_offsets(result.publications) == [1, 2, 3], "what has no bound is kept")


async def offsets_go_on_after_everything_was_trimmed(bench: Bench) -> None:
    keep = Retention(100, 60)
    head = (await bench.fill(A, 3, keep))[-1]
    bench.clock.advance(1000)
    for start in (EARLIEST, NOW, head):
        result = await bench.read(A, start, keep)
        promise(result.publications == [], "what is older than history_ttl_s is gone")
        promise(result.recovered, f"{start} of a stream that kept nothing misses nothing")
        promise(result.start == result.head == head, _told("a trimmed stream keeps its head", result.head, head))
    missed = await bench.read(A, Position(head.epoch, 2), keep)
    promise(not missed.recovered, "a position before what was trimmed cannot be continued")
    promise(missed.start == head, _told("it starts at the head", missed.start, head))
    position = await bench.append(A, "x", keep)
    promise(position == Position(head.epoch, 4), _told("offsets go on", position, Position(head.epoch, 4)))


async def a_position_that_is_gone_is_told(bench: Bench) -> None:
    keep = Retention(3, 86_400)
    epoch = (await bench.fill(A, 10, keep))[0].epoch
    edge = await bench.read(A, Position(epoch, 7), keep)
    promise(edge.recovered, "a position right before the oldest that is kept can be continued")
    unknown = [Position(epoch, 0), Position(epoch, 6), Position(epoch, 11), Position(epoch, 10**18 - 1)]
    unknown += [Position("other", 0), Position("other", 8), Position(epoch[:-1], 8), Position(epoch + "A", 8)]
    for start in unknown:
        result = await bench.read(A, start, keep)
        promise(not result.recovered, f"{start} cannot be continued, so recovered is false")
        promise(result.start == Position(epoch, 7), _told(f"{start} starts before the oldest that is kept", result.start, "7"))
        promise(_offsets(result.publications) == [8, 9, 10], f"{start} gets everything that is kept")


async def an_unborn_stream_has_its_first_epoch(bench: Bench) -> None:
    for start in (EARLIEST, NOW):
        result = await bench.read(A, start)
        promise(result.publications == [], "a stream without publications has none")
        promise(result.recovered, f"{start} of a stream without publications misses nothing")
        promise(result.start == result.head and result.head.offset == 0, _told("its head", result.head, "offset 0"))
    head = result.head
    gone = await bench.read(A, Position("other", 3))
    promise(not gone.recovered and gone.start == head, "a foreign position cannot be continued in a stream without publications")
    promise((await bench.read(A, head)).recovered, "the head of a stream without publications can be continued")
    position = await bench.append(A)
    promise(position == Position(head.epoch, 1), _told("the first append keeps the epoch told", position, f"{head.epoch}.1"))
    promise((await bench.read(A, head)).recovered, "the head from before the first append can be continued")


async def a_sweep_trims_what_nobody_publishes_to(bench: Bench) -> None:
    forever = Retention(100, math.inf)
    for channel in (A, B):
        await bench.fill(channel, 3, forever)
    bench.clock.advance(100)
    await bench.append(A, "young", forever)
    await bench.engine.sweep(lambda channel: Retention(100, 60) if channel == A else forever)
    kept = {channel: _offsets((await bench.read(channel, EARLIEST, forever)).publications) for channel in (A, B)}
    promise(kept == {A: [4], B: [1, 2, 3]}, _told("a sweep trims each channel to its retention", kept, {A: [4], B: [1, 2, 3]}))


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
    promise(went_on or began, f"a stream unused for long goes on after {old}, or begins another epoch; it went on at {new[0]}")
    if began:
        promise(not (await bench.read(A, old, keep)).recovered, "a position of a stream's former life cannot be continued")


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
    position = await bench.append(A, "x", keep)
    expected = Position(head.epoch, 1)
    promise(position == expected, _told("a stream without publications keeps its epoch while others are swept", position, expected))


# -- remove -----------------------------------------------------------------------------------------------------------


async def a_removed_stream_forgets_and_goes_on(bench: Bench) -> None:
    positions = await bench.fill(A, 3)
    head = await settled(bench.engine.remove(A))
    promise(head == positions[-1], _told("remove answers the position after what it forgot", head, positions[-1]))
    result = await bench.read(A, positions[0])
    promise(
        (result.publications, result.recovered, result.start, result.head) == ([], False, head, head),
        _told("who had not seen all of a removed stream is told", result, f"nothing, recovered=False, start and head {head}"),
    )
    result = await bench.read(A, head)
    promise(result.recovered, _told("who had seen all of a removed stream goes on", result, "recovered=True"))
    position = await bench.append(A, "new")
    promise(position == Position(head.epoch, 4), _told("offsets go on after a remove", position, f"{head.epoch}.4"))
    result = await bench.read(A)
    promise(_offsets(result.publications) == [4], _told("what was removed stays away", _offsets(result.publications), [4]))


async def a_key_holds_after_a_remove(bench: Bench) -> None:
    first = await bench.append(A, "x", key="k")
    await settled(bench.engine.remove(A))
    again = await bench.append(A, "x", key="k")
    promise(again == first, _told("a key holds after a remove", again, first))
    result = await bench.read(A)
    promise(result.publications == [], _told("a removed publication is not brought back by its key", result, "nothing"))


async def a_remove_keeps_leases_and_other_channels(bench: Bench) -> None:
    await bench.append(B, "x")
    bench.engine.lease(A, Member("c-1", "ann", None), 60)
    await settled(bench.engine.remove(A))
    promise(set(await _present(bench, A)) == {"c-1"}, "leases hold after a remove")
    result = await bench.read(B)
    promise(_offsets(result.publications) == [1], "a remove touches its channel only")


async def an_unborn_stream_can_be_removed(bench: Bench) -> None:
    head = await settled(bench.engine.remove(A))
    promise(head.offset == 0, _told("a remove before the first append", head, "offset 0"))
    position = await bench.append(A)
    promise(position == Position(head.epoch, 1), _told("the first append keeps the epoch told", position, f"{head.epoch}.1"))


async def removes_are_applied_in_the_order_of_calls(bench: Bench) -> None:
    answers = [
        bench.engine.append(A, Message(b"1"), KEEP),
        bench.engine.remove(A),
        bench.engine.append(A, Message(b"2"), KEEP),
    ]
    offsets = [(await settled(answer)).offset for answer in answers]
    promise(offsets == [1, 1, 2], _told("a remove between two appends", offsets, [1, 1, 2]))
    result = await bench.read(A)
    promise(_offsets(result.publications) == [2], _told("a remove takes what came before it", _offsets(result.publications), [2]))


# -- presence ---------------------------------------------------------------------------------------------------------


async def _present(bench: Bench, channel: Channel) -> dict[str, Member]:
    return {member.client: member for member in await bench.engine.members(channel)}


async def a_lease_is_seen_until_it_is_released(bench: Bench) -> None:
    ann, bob = Member("c-1", "ann", b'{"age":7}'), Member("c-2")
    promise(await _present(bench, A) == {}, "nobody is present at first")
    bench.engine.lease(A, ann, 35)
    bench.engine.lease(A, bob, 35)
    promise(await _present(bench, A) == {"c-1": ann, "c-2": bob}, "who holds a lease is present, as they were given")
    promise(await _present(bench, B) == {}, "a lease holds in its channel only")
    bench.engine.release(B, "c-1")
    bench.engine.release(A, "c-2")
    bench.engine.release(A, "never seen")
    promise(await _present(bench, A) == {"c-1": ann}, "a release ends one client's lease in one channel")
    bench.engine.release(A, "c-1")
    promise(await _present(bench, A) == {}, "nobody is present once all are released")


async def leases_are_applied_in_the_order_of_calls(bench: Bench) -> None:
    for _ in range(20):
        bench.engine.lease(A, Member("c-1"), 35)
        bench.engine.release(A, "c-1")
        bench.engine.release(A, "c-2")
        bench.engine.lease(A, Member("c-2"), 35)
    promise(set(await _present(bench, A)) == {"c-2"}, "leases and releases are applied in the order of calls")


async def a_lease_expires_unless_it_is_renewed(bench: Bench) -> None:
    bench.engine.lease(A, Member("c-1"), 35)
    bench.engine.lease(A, Member("c-2"), 35)
    bench.clock.advance(30)
    bench.engine.lease(A, Member("c-2", "bob"), 35)
    promise(set(await _present(bench, A)) == {"c-1", "c-2"}, "a lease holds for ttl_s")
    bench.clock.advance(6)
    promise(await _present(bench, A) == {"c-2": Member("c-2", "bob")}, "a lease that is not renewed ends after ttl_s")
    await bench.engine.sweep(lambda channel: KEEP)
    promise(set(await _present(bench, A)) == {"c-2"}, "a sweep forgets no lease that holds")
    bench.clock.advance(30)
    promise(await _present(bench, A) == {}, "a renewed lease ends too")


# -- the end ----------------------------------------------------------------------------------------------------------


async def stop_finishes_what_was_begun_and_is_idempotent(bench: Bench) -> None:
    answers = [bench.engine.append(A, Message(b"x"), KEEP) for _ in range(50)]
    await bench.engine.stop()
    await bench.engine.stop()
    for answer in answers:
        promise(not isinstance(answer, asyncio.Future) or answer.done(), "stop answers what was accepted")
    offsets = [(await settled(answer)).offset for answer in answers]
    promise(offsets == list(range(1, 51)), _told("stop finishes what was begun", offsets, "1 to 50"))


async def streams_outlive_the_engine(bench: Bench) -> None:
    keep = Retention(5, 86_400)
    message = Message(b"\0\xff", is_text=False, publisher=Publisher("ann", "c-1", b"[]"))
    await bench.fill(A, 6, keep)
    last = await settled(bench.engine.append(A, message, keep, key="k"))
    before = await bench.read(A, EARLIEST, keep)
    await bench.reopen()
    after = await bench.read(A, EARLIEST, keep)
    promise(after == before, _told("a reopened store reads as before", after, before))
    promise(await settled(bench.engine.append(A, message, keep, key="k")) == last, "a key holds in a reopened store")
    position = await bench.append(A, "x", keep)
    promise(position == Position(last.epoch, 8), _told("offsets go on in a reopened store", position, f"{last.epoch}.8"))


async def a_trimmed_stream_keeps_its_head_in_a_reopened_store(bench: Bench) -> None:
    keep = Retention(100, 60)
    head = (await bench.fill(A, 3, keep))[-1]
    bench.clock.advance(100)
    await bench.engine.sweep(lambda channel: keep)
    await bench.reopen()
    result = await bench.read(A, NOW, keep)
    promise(result.head == head, _told("the head of a trimmed stream", result.head, head))
    position = await bench.append(A, "x", keep)
    promise(position == Position(head.epoch, 4), _told("offsets go on in a reopened store", position, f"{head.epoch}.4"))


async def an_unborn_stream_keeps_its_epoch_in_a_reopened_store(bench: Bench) -> None:
    head = (await bench.read(A, NOW)).head
    await bench.reopen()
    position = await bench.append(A)
    promise(position == Position(head.epoch, 1), _told("the first append keeps the epoch told", position, f"{head.epoch}.1"))


async def a_removed_stream_stays_removed_in_a_reopened_store(bench: Bench) -> None:
    head = (await bench.fill(A, 3))[-1]
    await settled(bench.engine.remove(A))
    await bench.reopen()
    result = await bench.read(A)
    promise(
        (result.publications, result.head) == ([], head),
        _told("a removed stream in a reopened store", result, f"nothing, and the head {head}"),
    )
    position = await bench.append(A, "x")
    promise(position == Position(head.epoch, 4), _told("offsets go on in a reopened store", position, f"{head.epoch}.4"))


CHECKS: Final[tuple[Check, ...]] = (
    offsets_count_from_one_without_holes,
    channels_count_by_themselves,
    concurrent_appends_share_no_offset,
    appends_are_applied_in_the_order_of_calls,
    an_answered_append_can_be_read,
    cancelling_does_not_undo_an_append,
    every_publication_is_notified_once_in_order_before_its_answer,
    a_notification_carries_where_it_came_in,
    publications_come_back_as_they_were,
    any_channel_name_is_a_channel,
    a_key_appends_once,
    a_key_holds_in_its_channel_only,
    a_key_is_forgotten_after_its_time,
    keys_of_different_lives_do_not_hide_each_other,
    a_key_outlives_its_publication,
    one_key_at_one_time_appends_once,
    a_key_can_be_kept_for_ever,
    a_read_goes_on_after_a_position,
    a_read_from_the_earliest_has_everything,
    a_read_from_now_tells_the_head,
    a_read_obeys_its_limit,
    a_read_obeys_its_bytes,
    pages_make_a_whole,
    a_stream_is_trimmed_by_size,
    a_stream_is_trimmed_by_age,
    a_stream_can_be_kept_for_ever,
    offsets_go_on_after_everything_was_trimmed,
    a_position_that_is_gone_is_told,
    an_unborn_stream_has_its_first_epoch,
    a_sweep_trims_what_nobody_publishes_to,
    a_sweep_keeps_keys_that_hold,
    a_sweep_never_brings_an_old_position_back,
    a_sweep_of_others_leaves_an_unborn_stream_its_epoch,
    a_removed_stream_forgets_and_goes_on,
    a_key_holds_after_a_remove,
    a_remove_keeps_leases_and_other_channels,
    an_unborn_stream_can_be_removed,
    removes_are_applied_in_the_order_of_calls,
    a_lease_is_seen_until_it_is_released,
    leases_are_applied_in_the_order_of_calls,
    a_lease_expires_unless_it_is_renewed,
    stop_finishes_what_was_begun_and_is_idempotent,
)
"""What every engine promises."""

DURABLE_CHECKS: Final[tuple[Check, ...]] = (
    streams_outlive_the_engine,
    a_trimmed_stream_keeps_its_head_in_a_reopened_store,
    an_unborn_stream_keeps_its_epoch_in_a_reopened_store,
    a_removed_stream_stays_removed_in_a_reopened_store,
)
"""What an engine promises whose streams outlive it."""
