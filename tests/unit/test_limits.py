"""The token bucket."""

import pytest

from heartwire.core.limits import TokenBucket
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
