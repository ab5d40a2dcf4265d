"""Every decision on a stream record: creation, appends, producers, closing, leases."""

from collections.abc import Sequence
from typing import Final

import msgspec
import pytest

from heartwire.errors import Refused
from heartwire.streams import record as records
from heartwire.streams.record import (
    Appended,
    Claim,
    Producer,
    ProducerRefused,
    Step,
    StreamClosed,
    StreamOptions,
    StreamRecord,
)
from heartwire.types import ENDED, Channel, Message

STREAM: Final = Channel("answer:42")
TEXT: Final = StreamOptions(content_type="text/plain")
WORD: Final = [Message(b"word")]
NOW_MS: Final = 1_000_000
KNOWN: Final = {"p": (3, 7, NOW_MS)}  # epoch 3, number 7


def append(
    record: StreamRecord | None, claim: Claim, messages: Sequence[Message] = WORD, max_bytes: int = 1000
) -> Step:
    return records.append(STREAM, record, messages, claim, now_ms=NOW_MS, max_bytes=max_bytes)


def refusal(record: StreamRecord | None, claim: Claim, messages: Sequence[Message] = WORD) -> Refused:
    with pytest.raises(Refused) as refused:
        append(record, claim, messages)
    return refused.value


def create(record: StreamRecord | None, options: StreamOptions, **more: object) -> Step:
    return records.create(STREAM, record, options, more.pop("messages", ()), max_bytes=1000, **more)  # type: ignore[arg-type]


def opened(**fields: object) -> StreamRecord:
    return StreamRecord(options=TEXT, **fields)  # type: ignore[arg-type]


def from_producer(epoch: int, seq: int, **more: object) -> Claim:
    return Claim(producer=Producer("p", epoch, seq), **more)  # type: ignore[arg-type]


# -- creation ------------------------------------------------------------------------------------------------


def test_a_new_stream_has_its_first_messages() -> None:
    step = create(None, TEXT, messages=WORD)
    assert step.answer is True
    assert step.messages == WORD
    assert step.record == opened(tail=1, bytes=4)


def test_a_stream_that_is_created_closed_ends_with_its_first_messages() -> None:
    step = create(None, TEXT, messages=WORD, closed="done")
    assert [one.publisher for one in step.messages] == [None, ENDED]
    assert step.record == opened(tail=1, bytes=4, closed="done")


@pytest.mark.parametrize("content_type", ["text/plain", "TEXT/Plain", "text/plain; charset=utf-8"])
def test_a_second_creation_that_agrees_finds_the_stream(content_type: str) -> None:
    found = opened(tail=5)
    step = create(found, StreamOptions(content_type=content_type), messages=WORD)
    assert step == Step(found, (), False)


@pytest.mark.parametrize(
    ("options", "closed", "what"),
    [
        (StreamOptions(content_type="text/html"), "", "content type"),
        (StreamOptions(content_type="text/plain", ttl_s=5), "", "lifetime"),
        (StreamOptions(content_type="text/plain", ends_ms=5), "", "lifetime"),
        (StreamOptions(content_type="text/plain", source=(Channel("a"), 1, 0)), "", "source"),
        (TEXT, "done", "open"),
    ],
)
def test_a_second_creation_that_differs_is_refused_and_says_in_what(
    options: StreamOptions, closed: str, what: str
) -> None:
    with pytest.raises(Refused, match=what) as refused:
        create(opened(), options, closed=closed)
    assert refused.value.code.name == "stream_conflict"


def test_the_name_of_a_deleted_stream_with_forks_is_taken() -> None:
    with pytest.raises(Refused, match="take another name"):
        create(opened(is_deleted=True, forks=("fork",)), TEXT)


# -- appends, in the order of their checks -------------------------------------------------------------------


def test_messages_move_the_tail() -> None:
    step = append(opened(tail=5, bytes=10), Claim(), [*WORD, *WORD])
    assert step.record == opened(tail=7, bytes=18)
    assert step.answer == Appended(7, True, "")


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (None, "stream_not_found"),
        (opened(is_copying=True), "stream_not_found"),
        (opened(is_deleted=True), "stream_gone"),
    ],
)
def test_a_stream_that_is_not_there_takes_nothing(record: StreamRecord | None, name: str) -> None:
    assert refusal(record, Claim()).code.name == name


def test_a_replaced_producer_is_told_its_epoch_even_if_the_stream_is_closed() -> None:
    error = refusal(opened(producers=KNOWN, closed="done"), from_producer(2, 0))
    assert isinstance(error, ProducerRefused)
    assert (error.code.name, error.epoch) == ("stale_producer", 3)


def test_a_closed_stream_says_why_and_where_it_ends() -> None:
    error = refusal(opened(closed="aborted", tail=9), Claim(content_type="text/html"))
    assert isinstance(error, StreamClosed)
    assert (error.reason, error.tail) == ("aborted", 9)


@pytest.mark.parametrize("seq", [0, 6, 7])
def test_what_a_producer_sends_again_is_answered_with_its_last_and_not_appended(seq: int) -> None:
    found = opened(producers=KNOWN, tail=8)
    step = append(found, from_producer(3, seq, content_type="text/html", sequence="a"))
    assert step == Step(found, (), Appended(8, False, "", Producer("p", 3, 7)))


def test_the_next_number_of_a_producer_is_appended() -> None:
    step = append(opened(producers=KNOWN), from_producer(3, 8))
    assert step.answer == Appended(1, True, "", Producer("p", 3, 8))
    assert step.record is not None
    assert step.record.producers == {"p": (3, 8, NOW_MS)}


@pytest.mark.parametrize(
    ("claim", "expected"), [(from_producer(3, 10), 8), (Claim(producer=Producer("q", 0, 1)), 0)]
)
def test_a_number_that_leaves_one_out_is_refused_with_the_one_that_is_next(
    claim: Claim, expected: int
) -> None:
    error = refusal(opened(producers=KNOWN), claim)
    assert isinstance(error, ProducerRefused)
    assert (error.code.name, error.expected) == ("producer_gap", expected)


def test_a_later_epoch_begins_with_number_0() -> None:
    assert append(opened(producers=KNOWN), from_producer(9, 0)).answer.is_new
    assert refusal(opened(producers=KNOWN), from_producer(9, 1)).code.name == "bad_request"


def test_messages_of_no_content_type_have_to_be_json_where_the_stream_is() -> None:
    found = StreamRecord(options=StreamOptions(content_type="application/JSON; charset=utf-8"))
    good = [Message(b'{"a": [1]}'), Message(b" null\n", False)]
    assert append(found, Claim(), good).record.tail == 2  # type: ignore[union-attr]
    for bad in (b"word", b"", b"{} {}", b'"\xff"'):
        assert refusal(found, Claim(), [*good, Message(bad)]).code.name == "bad_request"
    assert append(found, Claim(content_type="application/json"), WORD).answer.is_new  # who says so has looked
    assert append(opened(), Claim(), WORD).answer.is_new


@pytest.mark.parametrize("content_type", ["text/html", ""])
def test_messages_of_another_content_type_are_refused(content_type: str) -> None:
    assert refusal(opened(), Claim(content_type=content_type)).code.name == "stream_conflict"


@pytest.mark.parametrize(
    ("last", "sequence", "is_taken"), [("09", "10", True), ("2", "10", False), ("a", "a", False)]
)
def test_a_sequence_is_compared_byte_by_byte(last: str, sequence: str, is_taken: bool) -> None:
    found = opened(sequence=last)
    if is_taken:
        step = append(found, Claim(sequence=sequence))
        assert step.record is not None
        assert step.record.sequence == sequence
    else:
        assert refusal(found, Claim(sequence=sequence)).code.name == "stream_conflict"


def test_a_stream_that_would_be_too_large_is_full() -> None:
    assert refusal(opened(bytes=998), Claim()).code.name == "stream_full"


def test_a_run_that_lost_the_stream_appends_nothing() -> None:
    assert refusal(opened(owner="b", lease_s=10), Claim(owner="a")).code.name == "stale_producer"
    assert append(opened(owner="a", lease_s=10), Claim(owner="a")).answer.is_new


def test_producers_of_a_week_are_bounded_and_older_ones_forgotten() -> None:
    week_ms = 7 * 86_400_000
    many = {f"p{at}": (0, 0, NOW_MS - week_ms * (at == 0) - at) for at in range(1000)}
    step = append(opened(producers=many), Claim(producer=Producer("new", 0, 0)))
    assert step.record is not None
    assert "p0" not in step.record.producers
    recent = dict.fromkeys(many, (0, 0, NOW_MS))
    assert refusal(opened(producers=recent), Claim(producer=Producer("new", 0, 0))).code.name == "stream_full"


# -- closing -------------------------------------------------------------------------------------------------


def test_closing_with_messages_is_one_step() -> None:
    step = append(opened(producers=KNOWN, owner="", lease_s=0), from_producer(3, 8, close="done"))
    assert [one.publisher for one in step.messages] == [None, ENDED]
    assert step.record is not None
    assert (step.record.closed, step.record.tail) == ("done", 1)
    assert step.answer.closed == "done"


def test_the_append_that_closed_is_known_again_and_no_other() -> None:
    closed = append(opened(producers=KNOWN), from_producer(3, 8, close="done")).record
    again = append(closed, from_producer(3, 8, close="done"), [Message(b"another body")])
    assert again.answer == Appended(1, False, "done", Producer("p", 3, 8))
    assert isinstance(refusal(closed, from_producer(3, 9, close="done")), StreamClosed)
    assert isinstance(refusal(closed, from_producer(3, 7)), StreamClosed)


def test_closing_twice_is_closing_once() -> None:
    closed = append(opened(), Claim(close="done"), ()).record
    assert append(closed, Claim(close="done"), ()).messages == ()
    assert isinstance(refusal(closed, Claim(close="done")), StreamClosed)


def test_a_stream_is_closed_for_the_reason_given_first() -> None:
    first = records.close(STREAM, opened(owner="a", lease_s=10), "aborted")
    assert first.answer is True
    assert msgspec.json.decode(first.messages[0].data) == {"reason": "aborted"}
    assert first.record is not None
    assert (first.record.owner, first.record.closed) == ("", "aborted")
    assert records.close(STREAM, first.record, "done") == Step(first.record, (), False)


def test_only_its_owner_closes_where_the_owner_is_named() -> None:
    found = opened(owner="b", lease_s=10)
    assert records.close(STREAM, found, "interrupted", owner="a") == Step(found, (), False)


@pytest.mark.parametrize(
    ("record", "is_lapsed"),
    [
        (opened(owner="a", lease_s=10), True),
        (opened(owner="a", lease_s=20), False),
        (opened(owner="a", lease_s=0), False),
        (opened(owner="", lease_s=10), False),
        (opened(owner="a", lease_s=10, closed="done"), False),
    ],
)
def test_an_owner_that_wrote_nothing_for_its_lease_is_dead(record: StreamRecord, is_lapsed: bool) -> None:
    assert record.is_lapsed(written_ms=NOW_MS, now_ms=NOW_MS + 10_001) is is_lapsed


# -- as bytes ------------------------------------------------------------------------------------------------


def test_a_record_is_the_same_after_its_way_through_the_store() -> None:
    fork = StreamOptions(content_type="a/b", source=(Channel("source"), 4, 1))
    found = StreamRecord(
        options=fork, producers=KNOWN, closer=Producer("p", 3, 7), past=(5,), epochs={"e": 4}, forks=("f",)
    )
    assert records.unpacked(records.packed(found)) == found
    assert records.unpacked(b"") is None


def test_a_record_remembers_its_last_writes() -> None:
    found = opened(tail=3)
    for revision in range(10):
        found = found.remember(revision)
    assert found.past == tuple(range(9, 1, -1))
