"""Publishes that wait for their answer: bounds, order, rounds."""

from heartwire.client.context import Context
from heartwire.client.options import Options
from heartwire.client.outputs import Rejected
from heartwire.client.pending_publishes import PendingPublishes
from heartwire.client.wire import ErrorBody, Reply


def pending(*keys: str, in_flight: int = 2) -> PendingPublishes:
    options = Options(
        max_pending_items=3, max_pending_bytes=100, max_in_flight=in_flight, max_pending_age_s=10
    )
    box = PendingPublishes(Context(options, draw=lambda: 0.5, now=0), prefix="p")
    for number, key in enumerate(keys):
        assert add(box, key, f'"{key}"', now=number)
    return box


def add(box: PendingPublishes, key: str, data: str, *, now: float = 0) -> bool:
    """Whether it was taken."""
    count = len(box)
    box._context.now = now
    box.add("a", data, "", key)
    return len(box) > count


def sent(box: PendingPublishes) -> list[str]:
    return [item.idempotency_key for item in box.to_send()]


def refuse_for_now(box: PendingPublishes, key: str) -> bool:
    """Whether that ends the round."""
    box.answered(key, Reply(error=ErrorBody(temporary=True)))
    return box.is_round_over


def next_round(box: PendingPublishes) -> None:
    box._deadlines.pop("resend", None)
    box.next_round()


def rejected(box: PendingPublishes) -> list[str]:
    keys = [one.key for one in box._outputs if isinstance(one, Rejected)]
    box._outputs.clear()
    return keys


def test_bounds() -> None:
    box = pending("1", "2", "3")
    assert not add(box, "4", "")
    box.answered("p-1", Reply())
    assert not add(box, "4", "x" * 95)
    assert add(box, "4", "x" * 94)
    assert (len(box), box.size_bytes) == (3, 100)


def test_go_back_n() -> None:
    box = pending("1", "2", "3")
    assert sent(box) == ["1", "2"]
    box.next_round()  # without effect: nothing was refused
    assert not refuse_for_now(box, "p-1")
    assert sent(box) == []
    assert refuse_for_now(box, "p-2")
    assert not refuse_for_now(box, "unknown") or box.is_round_over
    next_round(box)
    assert (sent(box), box.round) == (["1", "2"], 1)
    box.lost()
    assert (sent(box), box.round) == (["1", "2"], 0)


def test_publishes_that_are_too_old_leave_in_order() -> None:
    box = pending("1", "2", "3")
    assert box._deadlines["publish"] == 10
    box._context.now = 11
    box.expire()
    assert rejected(box) == ["p-1", "p-2"]
    box._context.now = 100
    box.expire()
    assert rejected(box) == ["p-3"]
    assert "publish" not in box._deadlines


def test_removing_what_is_not_there() -> None:
    box = pending("1")
    box.answered("p-9", Reply())
    assert box._outputs == []
    box.give_up("closed")
    assert rejected(box) == ["p-1"]
    assert (len(box), box.size_bytes) == (0, 0)


def test_the_largest_on_the_way() -> None:
    box = pending("1", "long")
    box.reject_largest("too large")
    assert rejected(box) == []
    sent(box)
    box.reject_largest("too large")
    assert rejected(box) == ["p-2"]


def test_one_that_is_given_up_is_not_sent_any_more() -> None:
    box = pending("1", "2", "3")
    assert sent(box) == ["1", "2"]
    box.give_up_one("p-3", "too late")
    box.give_up_one("p-1", "too late")
    box.give_up_one("p-1", "again")
    assert [one[1:] for one in box._outputs] == [(0, "too late", False), (0, "too late", True)]
    box.answered("p-2", Reply())
    assert (len(box), box.size_bytes, sent(box), "publish" in box._deadlines) == (0, 0, [], False)


def test_a_round_goes_on_without_the_one_it_began_with() -> None:
    box = pending("1", "2")
    assert sent(box) == ["1", "2"]
    assert not refuse_for_now(box, "p-2")
    box.give_up_one("p-1", "too late")
    assert box.is_round_over
    next_round(box)
    assert (sent(box), box.round) == (["2"], 1)
