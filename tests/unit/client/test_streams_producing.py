"""Which requests a producer of a durable stream makes, and what it makes of the answers."""

from typing import Any

import pytest

from heartwire import Options, Refused
from heartwire.client.streams_producing import Producing
from heartwire.client.streams_wire import Answer, Lost


def producing(*, is_new: bool = False, can_claim: bool = False, **options: Any) -> Producing:
    return Producing("p", 0, Options(**options), is_new=is_new, can_claim=can_claim)


def done(offset: str = "1") -> Answer:
    return Answer(200, {"Stream-Next-Offset": offset})


def duplicate(last: int, epoch: int = 0) -> Answer:
    return Answer(204, {"Producer-Epoch": str(epoch), "Producer-Seq": str(last)})


def claim(headers: dict[str, str]) -> tuple[str, str]:
    return headers["Producer-Epoch"], headers["Producer-Seq"]


def test_what_waits_goes_together_one_request_at_a_time() -> None:
    one = producing()
    assert one.is_idle
    one.add(b"a")
    assert one.take() == ({"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": "0"}, b"a")
    one.add(b"b")
    one.add(b"c")
    assert one.take()[1] == b"a"  # not acknowledged yet
    assert one.answered(done()) == 1
    headers, body = one.take()
    assert (claim(headers), body) == (("0", "1"), b"bc")
    assert (one.answered(done("3")), one.offset, one.is_idle) == (2, "3", True)


def test_json_goes_as_one_array() -> None:
    one = producing()
    one.is_json = True
    one.add(b"[1]")
    assert one.take()[1] == b"[[1]]"
    one.answered(done())
    one.add(b"{}")
    one.add(b"2")
    assert one.take()[1] == b"[{},2]"


def test_a_request_has_64_kib_or_one_append() -> None:
    one = producing()
    for size in (40_000, 30_000, 100_000, 1):
        one.add(b"x" * size)
    sizes = []
    while not one.is_idle:
        sizes.append(len(one.take()[1]))
        one.answered(done())
    assert sizes == [40_000, 30_000, 100_000, 1]


def test_what_waits_is_bounded() -> None:
    one = producing(max_pending_items=2, max_pending_bytes=10)
    assert one.add(b"x" * 100)  # one may wait, whatever its size
    assert not one.add(b"x")
    one.take()
    assert one.add(b"x" * 5)
    assert not one.add(b"x" * 6)
    assert one.add(b"x" * 5)
    assert not one.add(b"")


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_is_refused_for_now_is_sent_again_as_it_was(status: int) -> None:
    one = producing()
    one.add(b"a")
    first = one.take()
    with pytest.raises(Lost):
        one.answered(Answer(status, {}))
    one.add(b"b")
    one.close()
    assert one.take() == first
    assert one.answered(duplicate(0)) == 1  # it had it already


def test_closing_goes_with_the_last_append() -> None:
    one = producing()
    one.add(b"a")
    one.take()
    one.add(b"b")
    one.close()
    with pytest.raises(Refused, match="closed"):
        one.add(b"c")
    one.answered(done())
    headers, body = one.take()
    assert (headers["Stream-Closed"], body) == ("true", b"b")
    assert (one.answered(done()), one.is_closed, one.is_idle) == (1, True, True)
    with pytest.raises(Refused, match="closed"):
        one.add(b"c")
    one.close()
    assert one.is_idle


@pytest.mark.parametrize("is_json", [False, True])
def test_closing_alone_has_no_body(is_json: bool) -> None:
    one = producing()
    one.is_json = is_json
    one.close()
    headers, body = one.take()
    assert (headers["Stream-Closed"], body) == ("true", b"")
    assert (one.answered(duplicate(0)), one.is_closed) == (0, True)


REFUSALS = [
    (Answer(404, {}), "stream_not_found"),
    (Answer(409, {"Stream-Closed": "true"}), "stream_closed"),
    (Answer(409, {"Producer-Expected-Seq": "0"}), "producer_gap"),
    (Answer(409, {}), "stream_conflict"),
    (Answer(413, {}), "stream_full"),
    (Answer(403, {}), "forbidden"),
    (Answer(403, {"Producer-Epoch": "1"}), "stale_producer"),
]


@pytest.mark.parametrize(("answer", "name"), REFUSALS)
def test_refusals(answer: Answer, name: str) -> None:
    one = producing()
    one.add(b"a")
    one.take()
    with pytest.raises(Refused) as caught:
        one.answered(answer)
    assert caught.value.code.name == name


def test_a_later_epoch_is_claimed_once() -> None:
    one = producing(can_claim=True)
    one.add(b"a")
    one.take()
    assert one.answered(Answer(403, {"Producer-Epoch": "4"})) is None
    headers, body = one.take()
    assert (claim(headers), body, one.epoch) == (("5", "0"), b"a", 5)
    one.answered(done())
    one.add(b"b")
    one.take()
    with pytest.raises(Refused, match="epoch 5"):
        one.answered(Answer(403, {"Producer-Epoch": "6"}))


@pytest.mark.parametrize("last", [0, 7])
def test_an_epoch_of_an_earlier_life_swallows_nothing(last: int) -> None:
    """A program that starts again with the id and the epoch it had: the server has seen number 0 of that, so
    the append would be acknowledged, and not be there."""
    one = producing()
    one.add(b"a")
    one.take()
    with pytest.raises(Refused, match="used already"):
        one.answered(duplicate(last))
    other = producing(can_claim=True)
    other.add(b"a")
    other.take()
    assert other.answered(duplicate(last, epoch=0)) is None
    assert claim(other.take()[0]) == ("1", "0")


def test_duplicates_of_its_own() -> None:
    one = producing()
    one.add(b"a")
    one.take()
    one.take()
    assert one.answered(duplicate(0)) == 1  # the first try was applied
    one.add(b"b")
    one.take()
    assert one.answered(duplicate(1)) == 1  # sent twice by what is between
    one.add(b"c")
    one.take()
    with pytest.raises(Refused):
        one.answered(duplicate(5))  # another program goes on in this epoch
    new = producing(is_new=True)
    new.add(b"a")
    new.take()
    assert new.answered(duplicate(0)) == 1
