"""What a node watches, without a store."""

from heartwire.engines.watches import Watches
from heartwire.types import Channel

A, B = Channel("a"), Channel("b")


def opened(*channels: Channel) -> Watches:
    watches = Watches()
    watches.opened()
    for channel in channels:
        watches.add(channel)
    return watches


def test_watch_that_is_never_confirmed_is_overdue() -> None:
    watches = opened(A)
    assert not watches.is_overdue(10, 5)  # the first look
    assert not watches.is_overdue(14.9, 5)
    assert watches.is_overdue(15, 5)


def test_confirmations_that_come_one_by_one_are_in_time() -> None:
    watches = opened(A, B)
    assert not watches.is_overdue(10, 5)
    watches.confirm(A)
    assert not watches.is_overdue(15, 5)
    watches.confirm(B)
    assert not watches.is_overdue(20, 5)
    assert not watches.is_overdue(99, 5)


def test_nothing_is_overdue_while_the_feed_is_away_nor_at_once_after() -> None:
    watches = opened(A)
    watches.confirm(A)
    watches.lost()
    assert not watches.is_overdue(10, 5)
    assert not watches.is_overdue(20, 5)
    watches.opened()
    assert not watches.is_overdue(21, 5)
    assert watches.is_overdue(26, 5)


def test_watch_that_is_removed_is_not_waited_for() -> None:
    watches = opened(A)
    assert not watches.is_overdue(10, 5)
    watches.remove(A)
    assert not watches.is_overdue(15, 5)
