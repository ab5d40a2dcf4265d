"""The wheel: dead peers are given up in time, whenever they died, and no others are."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heartwire.core.liveness import Liveness


class Peer:
    """A link whose peer answers pings after ``delay_s``, until it dies; ``talks``: it also sends all the
    time."""

    def __init__(self, *, dies_at: float = math.inf, delay_s: float = 0, talks: bool = False) -> None:
        self.talks = talks
        self.heard = self.asked = self.takes = self.closed = False
        self.dies_at = dies_at
        self.delay_s = delay_s
        self.now = 0.0
        self.last_heard = 0.0
        self.answers_at = math.inf
        self.pings: list[float] = []
        self.given_up_at: float | None = None

    def ping(self) -> None:
        self.pings.append(self.now)
        self.answers_at = self.now + self.delay_s

    def give_up(self) -> None:
        assert not self.closed, "given up twice"
        self.given_up_at = self.now
        self.closed = True

    def speak(self, now: float) -> None:
        """What has arrived by now."""
        if self.answers_at <= min(now, self.dies_at):
            self.last_heard, self.answers_at = self.answers_at, math.inf
            self.heard = True
        if self.talks and self.last_heard < self.dies_at:
            self.last_heard = min(now, self.dies_at)
            self.heard = True


def run(wheel: Liveness, peers: list[Peer], times: list[float]) -> None:
    for now in times:
        for peer in peers:
            peer.now = now
            peer.speak(now)
        wheel.advance(now)


def ticks(wheel: Liveness, seconds: float, start: float = 0) -> list[float]:
    return [start + wheel.tick_s * number for number in range(1, math.ceil(seconds / wheel.tick_s) + 1)]


INTERVALS = st.tuples(st.floats(0.5, 60), st.floats(0.02, 0.98)).map(
    lambda pair: (pair[0], pair[0] * pair[1])
)


@settings(max_examples=200)
@example(
    intervals=(1.0, 0.5126657578945658), spread=0.0, dies=0.125, delay=0.0, watched=0.0, talks=False
)  # rounding
@given(
    intervals=INTERVALS,
    spread=st.floats(0, 1),
    dies=st.floats(0, 1),
    delay=st.floats(0, 0.89),
    watched=st.floats(0, 0.99),
    talks=st.booleans(),
)
def test_dead_peer_is_given_up_within_the_bound_whenever_it_died(
    intervals: tuple[float, float], spread: float, dies: float, delay: float, watched: float, talks: bool
) -> None:
    ping_interval_s, pong_timeout_s = intervals
    wheel = Liveness(ping_interval_s=ping_interval_s, pong_timeout_s=pong_timeout_s, now=0)
    bound = ping_interval_s + pong_timeout_s
    start = watched * wheel.tick_s  # between two ticks
    peer = Peer(dies_at=start + dies * 3 * bound, delay_s=delay * pong_timeout_s, talks=talks)
    peer.last_heard = start
    wheel.watch(peer, spread=spread)
    run(wheel, [peer], ticks(wheel, 5 * bound))
    assert peer.given_up_at is not None
    assert peer.given_up_at - peer.last_heard <= bound * (1 + 1e-9)


@settings(max_examples=100)
@given(intervals=INTERVALS, spread=st.floats(0, 1), delay=st.floats(0, 0.79))
def test_peer_that_answers_in_time_is_never_given_up(
    intervals: tuple[float, float], spread: float, delay: float
) -> None:
    ping_interval_s, pong_timeout_s = intervals
    wheel = Liveness(ping_interval_s=ping_interval_s, pong_timeout_s=pong_timeout_s, now=0)
    peer = Peer(delay_s=delay * pong_timeout_s)
    wheel.watch(peer, spread=spread)
    run(wheel, [peer], ticks(wheel, 6 * ping_interval_s))
    assert peer.given_up_at is None
    assert len(peer.pings) >= 5


def test_peer_that_talks_all_the_time_is_pinged_once_an_interval() -> None:
    wheel = Liveness(ping_interval_s=25, pong_timeout_s=10, now=0)
    peer = Peer()
    wheel.watch(peer, spread=1)
    for now in ticks(wheel, 250):
        peer.heard = True
        run(wheel, [peer], [now])
    assert len(peer.pings) == 10
    assert peer.given_up_at is None


def test_data_heard_before_the_ping_does_not_answer_it() -> None:
    wheel = Liveness(ping_interval_s=25, pong_timeout_s=10, now=0)
    peer = Peer(dies_at=0)
    wheel.watch(peer, spread=0)
    peer.heard = True
    run(wheel, [peer], ticks(wheel, 10))
    assert (peer.pings, peer.given_up_at) == ([1.0], 10.0)


def test_crowd_is_spread_over_the_pause() -> None:
    wheel = Liveness(ping_interval_s=25, pong_timeout_s=10, now=0)
    peers = [Peer() for _ in range(150)]
    for number, peer in enumerate(peers):
        wheel.watch(peer, spread=number / 150)
    run(wheel, peers, ticks(wheel, 15))
    firsts = [peer.pings[0] for peer in peers]
    assert max(firsts.count(now) for now in firsts) <= 16
    assert len(set(firsts)) == 15


@pytest.mark.parametrize("held_s", [4, 9.5, 40, 1000])
def test_no_peer_is_given_up_at_once_when_the_node_was_held_up(held_s: float) -> None:
    wheel = Liveness(ping_interval_s=25, pong_timeout_s=10, now=0)
    living, dead = Peer(), Peer(dies_at=0)
    for peer in (living, dead):
        wheel.watch(peer, spread=0.99)
    run(wheel, [living, dead], ticks(wheel, 16))
    assert (living.asked, dead.asked) == (True, True)
    wheel.advance(17 + held_s)  # the answers are still in the kernel
    assert (living.given_up_at, dead.given_up_at) == (None, None)
    run(wheel, [living, dead], ticks(wheel, 30, start=17 + held_s))
    assert living.given_up_at is None
    assert dead.given_up_at is not None
    assert dead.given_up_at <= max(26, 17 + held_s + 1)


def test_short_delays_of_the_node_are_caught_up_with() -> None:
    wheel = Liveness(ping_interval_s=25, pong_timeout_s=10, now=0)
    peer = Peer(dies_at=0)
    wheel.watch(peer, spread=0)
    run(wheel, [peer], [0.5, 1.0, 1.2, 3.9, 4.0, 6.9, 9.9, 10.0])
    assert (peer.pings, peer.given_up_at) == ([1.0], 10.0)


def test_closed_link_is_forgotten_when_its_slot_comes_round() -> None:
    wheel = Liveness(ping_interval_s=25, pong_timeout_s=10, now=0)
    peers = [Peer() for _ in range(10)]
    for number, peer in enumerate(peers):
        wheel.watch(peer, spread=number / 10)
        peer.closed = True
    run(wheel, peers, ticks(wheel, 25))
    assert all(peer.pings == [] and peer.given_up_at is None for peer in peers)
    assert not any(wheel._slots)


def test_time_that_stands_still_does_nothing() -> None:
    wheel = Liveness(ping_interval_s=25, pong_timeout_s=10, now=100)
    peer = Peer()
    wheel.watch(peer, spread=0)
    run(wheel, [peer], [100.0, 100.0, 100.5, 100.99])
    assert peer.pings == []


def test_full_link_lives_while_what_waits_shrinks_and_dies_when_it_does_not_whatever_comes_in() -> None:
    """60 KB to a reader of 1 KB a second once counted as silence; bytes from a peer that takes nothing as
    life."""
    wheel = Liveness(ping_interval_s=25, pong_timeout_s=10, now=0)
    slow, stuck = Peer(dies_at=0), Peer(dies_at=0)
    slow.takes = True
    wheel.watch(slow, spread=1)
    wheel.watch(stuck, spread=1)
    run(wheel, [slow, stuck], ticks(wheel, 70))
    assert slow.given_up_at is None
    assert stuck.given_up_at is not None
    assert stuck.given_up_at <= 35
