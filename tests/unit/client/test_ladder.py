"""The ladder of transports."""

from heartwire.client.ladder import Ladder


def test_the_top_has_nothing_better() -> None:
    assert Ladder(["a", "b"]).better() is None


def test_each_better_rung_in_turn() -> None:
    ladder = Ladder(["a", "b", "c"], "c")
    assert [ladder.better() for _ in range(3)] == [0, 1, 0]


def test_below_the_last_is_the_first_and_no_second_at_once() -> None:
    ladder = Ladder(["a", "b"])
    assert ladder.failed(is_reachable=True, is_timeout=False)
    assert (ladder.transport, ladder.rounds) == ("b", 0)
    assert not ladder.failed(is_reachable=True, is_timeout=True)
    assert (ladder.transport, ladder.rounds) == ("a", 1)


def test_heartbeats_forgive_early_deaths() -> None:
    ladder = Ladder(["a", "b"])
    ladder.opened(0)
    for had_heartbeat in (False, True, False):
        ladder.died(had_heartbeat=had_heartbeat, is_abnormal=True)
    assert ladder.transport == "a"
    assert not ladder.failed(is_reachable=False, is_timeout=False)  # the server died, not what carried it
    ladder.died(had_heartbeat=False, is_abnormal=True)
    assert ladder.transport == "a"
    ladder.died(had_heartbeat=False, is_abnormal=True)
    assert ladder.transport == "b"
