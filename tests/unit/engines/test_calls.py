"""The calls that wait for a store: their order, and what fails with what."""

import asyncio
from typing import Any

import pytest

from heartwire.engines.calls import MAX_BYTES, MAX_CALLS, Call, Calls, Room, retry_s
from heartwire.errors import EngineUnavailable, EngineUncertain


def call(name: str = "", *, size: int = 1, is_append: bool = True, is_once: bool = False) -> Call:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    return Call(name, None, answer, size=size, is_append=is_append, is_once=is_once)


def kinds(calls: Any) -> list[str]:
    return [one.kind for one in calls]


def send_all(calls: Calls) -> None:
    while calls.next(0.0) is not None:
        pass


def error_of(one: Call) -> BaseException | None:
    assert one.answer is not None
    return one.answer.exception()


async def test_what_was_sent_goes_again_first_and_in_order_after_a_break() -> None:
    calls = Calls(Room())
    for name in "abc":
        calls.add(call(name), 0.0)
    send_all(calls)
    calls.add(call("d"), 0.0)
    calls.answered().succeed(1)
    calls.broken()
    assert [(one.kind, one.is_doubtful) for one in calls.waiting] == [("b", True), ("c", True), ("d", False)]


async def test_what_a_server_refused_is_sent_before_what_it_may_have_and_is_not_doubtful() -> None:
    calls = Calls(Room())
    for name in "abc":
        calls.add(call(name), 0.0)
    send_all(calls)
    refused = calls.answered()
    calls.broken()
    calls.again([refused])
    assert [(one.kind, one.is_doubtful) for one in calls.waiting] == [("a", False), ("b", True), ("c", True)]


async def test_what_is_sent_once_is_dropped_by_a_break() -> None:
    calls = Calls(Room())
    once = call("a", is_append=False, is_once=True)
    calls.add(once, 0.0)
    calls.add(call("b", is_append=False), 0.0)
    send_all(calls)
    calls.broken()
    assert kinds(calls.waiting) == ["b"]
    assert isinstance(error_of(once), EngineUnavailable)


async def test_an_append_that_fails_fails_those_behind_it_until_its_caller_has_heard() -> None:
    calls = Calls(Room())
    first, second, read = call("a"), call("b"), call("r", is_append=False)
    for one in (first, second, read):
        calls.add(one, 0.0)
    calls.next(0.0)
    calls.fail(calls.answered(), EngineUnavailable("full"))
    third = call("c")
    calls.add(third, 0.0)
    send_all(calls)
    assert isinstance(error_of(first), EngineUnavailable)
    assert isinstance(error_of(second), EngineUnavailable)
    assert kinds(calls.sent) == ["r", "c"]


async def test_patience_ends_for_what_waited_long_enough_in_a_time_of_absence() -> None:
    calls = Calls(Room())
    doubtful, early, late = call("a"), call("b", is_append=False), call("c", is_append=False)
    calls.add(doubtful, 0.0)
    send_all(calls)
    calls.broken()
    calls.add(early, 0.0)
    calls.add(late, 4.0)
    calls.expire(5.9, 5.0, 1.0, "away")
    assert len(calls) == 3
    calls.expire(6.0, 5.0, 1.0, "away")
    assert isinstance(error_of(doubtful), EngineUncertain)
    assert isinstance(error_of(early), EngineUnavailable)
    assert kinds(calls.waiting) == ["c"]


async def test_an_answer_is_late_by_the_time_it_was_sent() -> None:
    calls = Calls(Room())
    calls.add(call(), 0.0)
    assert not calls.late(100.0, 5.0)
    calls.next(100.0)
    assert (calls.late(104.9, 5.0), calls.late(105.0, 5.0)) == (False, True)


async def test_room_is_bounded_and_counts_what_waits_and_what_was_sent() -> None:
    room = Room()
    calls, others = Calls(room), Calls(room)
    calls.add(call(size=MAX_BYTES - 10), 0.0)
    send_all(calls)
    others.add(call(size=5), 0.0)
    room.check(5)
    with pytest.raises(EngineUnavailable, match="2 calls are waiting for the store; nothing was stored"):
        room.check(6)
    calls.broken()
    for one in calls.hand_over():
        others.adopt(one)
    assert (room.calls, len(others)) == (2, 2)
    emptied = asyncio.ensure_future(room.emptied())
    await asyncio.sleep(0)
    others.fail_all("over")
    await emptied
    assert (room.calls, room.bytes) == (0, 0)
    room.calls = MAX_CALLS
    with pytest.raises(EngineUnavailable):
        room.check(0)


async def test_a_caller_that_has_gone_is_no_fault() -> None:
    one, other = call(), call()
    for each in (one, other):
        assert each.answer is not None
        each.answer.cancel()
    one.succeed(1)
    other.fail(EngineUnavailable("gone"))


def test_waits_between_tries_grow_and_differ() -> None:
    assert [retry_s(tries, 0.0) for tries in (0, 3, 50)] == [0.05, 0.05, 0.05]
    assert [retry_s(tries, 1.0) for tries in (0, 3, 50)] == [0.05, 0.4, 2.0]
