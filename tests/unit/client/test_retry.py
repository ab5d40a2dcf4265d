"""Backoff, and the bucket of attempts."""

import pytest

from heartwire.client.retry import Backoff, Bucket


def test_backoff_doubles_to_the_cap_and_begins_anew() -> None:
    backoff = Backoff(base_s=1, cap_s=3, draw=lambda: 1.0)
    assert [backoff.next_s() for _ in range(4)] == [1, 2, 3, 3]
    backoff.reset()
    assert backoff.next_s() == 1


def test_backoff_of_a_client_that_never_gives_up() -> None:
    backoff = Backoff(base_s=1, cap_s=3, draw=lambda: 1.0)
    backoff.failures = 10**6
    assert backoff.next_s() == 3


def test_bucket_holds_its_burst_and_fills_at_its_rate() -> None:
    bucket = Bucket(0.5, 2, 0.0)
    assert [bucket.take(0.0), bucket.take(0.0)] == [0, 0]
    assert bucket.take(0.0) == pytest.approx(2.001)
    assert bucket.take(2.001) == 0
    assert bucket.take(1.0) > 0  # a clock that goes back fills nothing


def test_the_reported_wait_is_long_enough() -> None:
    bucket, now = Bucket(0.3, 1, 0.0), 0.1
    for _ in range(1000):
        now += bucket.take(now)
        assert bucket.take(now) in (0, pytest.approx(1 / 0.3 + 0.001))
