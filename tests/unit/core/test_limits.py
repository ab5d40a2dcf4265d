"""The token bucket, and turns."""

import math
from itertools import pairwise

import pytest

from heartwire.core.limits import TokenBucket, Turns
from heartwire.testing import FakeClock


def test_full_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    clock = FakeClock(0)
    bucket = TokenBucket(2, 3, clock())
    assert [bucket.take(clock()) for _ in range(5)] == [True, True, True, False, False]
    assert bucket.wait_s == pytest.approx(0.5)
    clock.advance(0.25)
    assert not bucket.take(clock())
    assert bucket.wait_s == pytest.approx(0.25)
    clock.advance(0.25)
    assert bucket.take(clock())
    assert not bucket.take(clock())


def test_bucket_never_saves_up_more_than_its_burst() -> None:
    bucket = TokenBucket(10, 3, 0)
    assert [bucket.take(1000) for _ in range(4)] == [True, True, True, False]


def test_bucket_with_tokens_asks_for_no_wait() -> None:
    bucket = TokenBucket(1, 2, 0)
    bucket.take(0)
    assert bucket.wait_s == 0


def test_refused_takes_cost_nothing() -> None:
    bucket = TokenBucket(1, 1, 0)
    assert bucket.take(0)
    assert not any(bucket.take(0.5) for _ in range(10))
    assert bucket.take(1)


def test_crowd_comes_in_at_the_rate_and_nobody_is_sent_away_twice() -> None:
    rate, burst, crowd = 500, 1000, 10_000
    turns = Turns(rate, burst, 0)
    waits = [turns.next_turn_s(5.0) for _ in range(crowd)]
    assert waits[:burst] == [0] * burst
    assert all(later > sooner for sooner, later in pairwise(waits[burst - 1 :]))
    assert waits[-1] == pytest.approx((crowd - burst + 1) / rate)
    # As clients are told it, in whole milliseconds; and one of them is late.
    returns = sorted([math.ceil(wait * 1000) / 1000 for wait in waits[burst + 1 :]] + [3.0])
    assert not any(turns.next_turn_s(5 + wait) for wait in returns)


def test_a_newcomer_may_find_room_but_gets_no_earlier_turn() -> None:
    turns = Turns(10, 1, 0)
    assert turns.next_turn_s(0) == 0
    assert [turns.next_turn_s(0) for _ in range(3)] == pytest.approx([0.2, 0.3, 0.4])
    assert turns.next_turn_s(0.1) == 0  # there is room, and nobody else is here
    assert turns.next_turn_s(0.1) == pytest.approx(0.4)


def test_turns_are_forgotten_when_their_time_is_over() -> None:
    turns = Turns(10, 1, 0)
    assert [turns.next_turn_s(0) for _ in range(3)] == pytest.approx([0, 0.2, 0.3])
    assert [turns.next_turn_s(60) for _ in range(3)] == pytest.approx([0, 0.2, 0.3])


def test_flood_shuts_nobody_out_for_long() -> None:
    turns = Turns(1, 1, 0)
    waits = [turns.next_turn_s(0) for _ in range(1000)]
    assert max(waits) <= 300
    assert waits[300:302] == pytest.approx([2, 3])
