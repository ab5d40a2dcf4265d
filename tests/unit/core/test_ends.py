"""The end of a durable stream: each subscription that has got all of it is told once, last."""

import pytest

from heartwire.core.subscription import State
from heartwire.core.topic import TailLimits
from heartwire.types import EARLIEST, NOW, Position, Start
from tests.unit.core.fakes import A, B, Desk, Ended, FakeLink, Told, Wrote


def told(desk: Desk) -> list[tuple[FakeLink, int]]:
    return [(link, end.offset) for link, end in desk.ends]


def kinds(link: FakeLink) -> list[type]:
    return [type(payload) for payload in link.payloads]


@pytest.mark.parametrize("echo", [True, False])
@pytest.mark.parametrize("count", [0, 2])
def test_who_is_live_gets_what_came_with_the_end_and_is_told(count: int, echo: bool) -> None:
    desk = Desk(durable=True)
    link = desk.follow(echo=echo)
    desk.settle()
    desk.publish(count)
    desk.end()
    assert desk.ends == []
    desk.settle()
    assert kinds(link) == [Told, *([Wrote] if count else []), Ended]
    assert (link.offsets, told(desk)) == ([1, 2][:count], [(link, count + 1)])
    assert desk.switchboard.topics == {}


def test_the_end_is_not_encoded_and_is_told_as_it_is() -> None:
    desk = Desk(durable=True)
    link = desk.follow()
    desk.settle()
    desk.publish()
    desk.end()
    desk.settle()
    ((_, end),) = desk.ends
    assert (desk.format.encoded, end.is_end, end.reason) == ([Position(end.epoch, 1)], True, "done")
    last: object = link.payloads[-1]
    assert last == Ended(A, end.position)


def test_a_link_that_the_last_write_fills_is_told_once_it_has_drained() -> None:
    desk = Desk(durable=True)
    link, other = desk.follow(room=1), desk.follow()
    desk.settle()
    desk.publish(2)
    desk.end()
    desk.settle()
    assert (link.offsets, told(desk)) == ([1, 2], [(other, 3)])
    link.drain()
    desk.settle()
    assert told(desk) == [(other, 3), (link, 3)]


def test_a_link_that_was_full_before_is_caught_up_and_then_told() -> None:
    desk = Desk(durable=True, limits=TailLimits(topic_items=2))
    link = desk.follow(room=0)
    desk.settle()
    desk.publish()
    desk.turn()
    desk.publish(5)
    desk.end()
    desk.settle()
    assert (link.offsets, desk.ends) == ([1], [])
    link.room = None
    link.drain()
    desk.settle()
    assert (link.offsets, told(desk)) == ([1, 2, 3, 4, 5, 6], [(link, 7)])


def test_bytes_held_for_the_turn_are_written_before_a_link_is_told() -> None:
    """Only when they are written does a link know that it is full; who is told is closed, and a full one would
    lose them."""
    desk = Desk(durable=True)
    link = desk.follow()
    desk.settle()
    link.write = lambda payload: link.fill()  # type: ignore[method-assign]
    desk.switchboard.hold(link, b"reply")
    desk.end()
    desk.turn()
    assert (link.paused, desk.ends) == (True, [])
    del link.write
    link.drain()
    desk.settle()
    assert told(desk) == [(link, 1)]


@pytest.mark.parametrize("start", [EARLIEST, NOW, 0, 3, 5, 6])
@pytest.mark.parametrize("page", [2, 256])
def test_who_comes_after_the_end_gets_what_is_missing_and_is_told(start: Start | int, page: int) -> None:
    desk = Desk(durable=True, page=page)
    desk.publish(5)
    desk.end()
    link = desk.follow(Position(desk.head().epoch, start) if isinstance(start, int) else start)
    desk.settle()
    first = start if isinstance(start, int) else 0 if start is EARLIEST else 6
    assert (link.offsets, told(desk)) == ([*range(first + 1, 6)], [(link, 6)])
    assert kinds(link)[-1] is Ended


@pytest.mark.parametrize("start", [NOW, 0, 1, 2])
def test_who_comes_after_the_end_to_a_topic_in_memory_is_told_without_a_read(start: Start | int) -> None:
    desk = Desk(durable=True, lingering=1)
    desk.follow()
    desk.settle()
    desk.publish()
    desk.end()
    desk.settle()
    desk.ends.clear()
    asked = desk.asked
    link = desk.follow(Position(desk.head().epoch, start) if isinstance(start, int) else start)
    assert (link.subscriptions[0].state, desk.ends) == (State.LIVE, []), "told before it is known"
    desk.settle()
    assert (link.offsets, told(desk), desk.asked) == ([1][: start == 0], [(link, 2)], asked)


def test_who_leaves_before_it_is_told_is_not_told() -> None:
    desk = Desk(durable=True)
    desk.publish()
    desk.end()
    link = desk.follow(NOW)
    desk.answer()
    desk.switchboard.leave(link.subscriptions[0])
    desk.settle()
    assert (desk.ends, desk.switchboard.topics) == ([], {})


@pytest.mark.parametrize("has_reader", [True, False])
def test_an_end_that_was_not_heard_is_looked_for(has_reader: bool) -> None:
    """Memory knows where the stream is, and not what its last publication was."""
    desk = Desk(durable=True, lingering=1)
    first = desk.follow(room=0)
    desk.settle()
    desk.publish()
    desk.turn()
    assert first.paused
    if not has_reader:
        first.close(1000, "gone")
    desk.publish_unheard(2, ends=True)
    desk.switchboard.behind(A, desk.head())
    links = [desk.follow(NOW), desk.follow(desk.head())]
    desk.settle()
    assert told(desk) == [(link, 4) for link in links]


def test_the_end_is_looked_for_where_the_only_reader_has_not_come_so_far() -> None:
    desk = Desk(durable=True, page=2)
    desk.publish(5)
    desk.end()
    slow = desk.follow(EARLIEST, room=0)
    desk.settle()
    assert slow.paused
    link = desk.follow(NOW)
    desk.settle()
    assert told(desk) == [(link, 6)]


def test_who_read_ahead_of_the_notice_is_told_with_the_others() -> None:
    desk = Desk(durable=True)
    live = desk.follow()
    desk.settle()
    notices = desk.publish_unheard(1, ends=True)
    ahead = desk.follow(EARLIEST)
    desk.settle()
    assert (ahead.offsets, live.offsets, desk.ends) == ([1], [], [])
    for notice in notices:
        desk.switchboard.notify(notice)
    desk.settle()
    assert (live.offsets, sorted(told(desk), key=lambda one: one[0].serial)) == ([1], [(live, 2), (ahead, 2)])


def test_a_stream_that_was_made_anew_has_not_ended() -> None:
    desk = Desk(durable=True, lingering=1)
    desk.follow()
    desk.publish()
    desk.end()
    desk.settle()
    desk.ends.clear()
    desk.restart()
    desk.switchboard.forget(A)
    desk.switchboard.behind(A, desk.head())
    link = desk.follow(NOW)
    desk.settle()
    desk.publish()
    desk.settle()
    assert (link.offsets, desk.ends, link.subscriptions[0].state) == ([1], [], State.LIVE)


def test_the_end_of_one_channel_leaves_the_link_in_the_other() -> None:
    desk = Desk(durable=True)
    link = desk.follow()
    desk.follow(channel=B, link=link)
    desk.settle()
    desk.end()
    desk.publish(channel=B)
    desk.settle()
    desk.publish(channel=B)
    desk.settle()
    assert [end.channel for _, end in desk.ends] == [A]
    assert [publication.channel for publication in link.publications] == [B, B]


def test_a_channel_that_is_not_durable_asks_no_more_than_before() -> None:
    desk = Desk(lingering=1)
    desk.publish(3)
    desk.follow()
    desk.settle()
    desk.follow(NOW)
    desk.follow(desk.head())
    desk.settle()
    assert desk.asked == 1
