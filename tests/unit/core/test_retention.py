"""No reader gets from memory what the channel's retention has ended; who is live misses nothing by it."""

from heartwire.engines.contract import Retention
from heartwire.types import NOW, Position
from tests.unit.core.fakes import A, Desk


def test_reader_that_comes_back_gets_no_more_than_history_size() -> None:
    desk = Desk(keep=Retention(3, 86_400))
    live = desk.follow()
    desk.settle()
    desk.publish(10)
    desk.turn()
    epoch = desk.switchboard.topics[A].epoch
    late = desk.follow(Position(epoch, 1))
    desk.settle()
    assert (late.offsets, late.told) == ([8, 9, 10], [(7, False)])
    in_time = desk.follow(Position(epoch, 7))
    assert (in_time.offsets, in_time.told) == ([8, 9, 10], [(7, True)])
    assert live.offsets == list(range(1, 11))


def test_reader_that_comes_back_gets_nothing_older_than_history_ttl_s() -> None:
    desk = Desk(keep=Retention(100, 2))
    desk.follow()
    desk.settle()
    desk.publish(2)
    desk.turn()
    epoch = desk.switchboard.topics[A].epoch
    desk.clock.advance(1.5)
    desk.publish()
    desk.turn()
    desk.clock.advance(1)
    late = desk.follow(Position(epoch, 1))
    desk.settle()
    assert (late.offsets, late.told) == ([3], [(2, False)])
    desk.clock.advance(2)
    later = desk.follow(Position(epoch, 1))
    desk.settle()
    assert (later.offsets, later.told) == ([], [(3, False)])
    assert desk.limits.used_bytes == 0  # and memory does not hold what nobody may read
    seen_all = desk.follow(Position(epoch, 3))
    assert (seen_all.offsets, seen_all.told) == ([], [(3, True)])


def test_slow_reader_whose_link_drains_too_late_is_told_of_the_gap() -> None:
    desk = Desk(keep=Retention(100, 2))
    slow = desk.follow()
    desk.settle()
    slow.fill()
    desk.publish(3)
    desk.turn()
    desk.clock.advance(3)
    slow.drain()
    desk.settle()
    assert (slow.offsets, slow.told[-1]) == ([], (3, False))


def test_publications_of_a_turn_reach_who_is_live_though_fewer_are_kept() -> None:
    desk = Desk(keep=Retention(1, 86_400))
    live = desk.follow()
    desk.settle()
    desk.publish(3)
    desk.follow(desk.head())  # it looks at the tail before the turn ends
    desk.turn()
    desk.settle()
    assert live.offsets == [1, 2, 3]


def test_reader_from_now_on_hears_of_no_gap_where_the_channel_outruns_the_read() -> None:
    desk = Desk(keep=Retention(1, 86_400))
    desk.publish()
    first = desk.follow(NOW)  # its read is under way
    desk.publish(3)
    desk.turn()
    desk.settle()
    desk.publish()
    desk.turn()
    assert first.told == [(4, True)]
    assert first.offsets == [5]
