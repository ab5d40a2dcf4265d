"""The tail: its reads, its bounds, and its memory accounting."""

import pytest

from heartwire.core.topic import TailLimits, Topic
from heartwire.types import EARLIEST, Position
from tests.unit.core.fakes import A, B, Desk


def tail(desk: Desk) -> list[int]:
    """The offsets that can be read from memory, by `Topic.covers`."""
    topic = desk.switchboard.topics[A]
    return [offset + 1 for offset in range(topic.flushed) if topic.covers(Position(topic.epoch, offset))]


def held(topic: Topic) -> int:
    return sum(len(publication.data) for publication in topic._tail)


def test_tail_holds_the_newest_of_an_item_bound() -> None:
    desk = Desk(limits=TailLimits(topic_items=16))
    desk.follow()
    desk.settle()
    for count in range(1, 100):
        desk.publish()
        desk.turn()
        kept = tail(desk)
        assert kept == list(range(count - len(kept) + 1, count + 1))
        assert min(count, 14) <= len(kept) <= 16


def test_tail_holds_the_newest_of_a_byte_bound() -> None:
    desk = Desk(limits=TailLimits(topic_bytes=1000))
    desk.follow()
    desk.settle()
    for count in range(1, 50):
        desk.publish(data=b"x" * 100)
        desk.turn()
        assert min(count * 100, 800) <= desk.limits.used_bytes <= 1000
        assert tail(desk)[-1] == count
    desk.publish(data=b"x" * 1001)
    desk.turn()
    assert (tail(desk), desk.limits.used_bytes) == ([], 0)
    desk.publish(2, data=b"x" * 400)
    desk.turn()
    assert tail(desk) == [51, 52]


def test_tails_share_the_budget_of_the_node() -> None:
    desk = Desk(limits=TailLimits(node_bytes=1000))
    desk.follow()
    desk.follow(channel=B)
    desk.settle()
    desk.publish(9, data=b"x" * 100)
    desk.turn()
    for _ in range(5):
        desk.publish(channel=B, data=b"x" * 100)
        desk.turn()
        assert (
            desk.limits.used_bytes == sum(held(topic) for topic in desk.switchboard.topics.values()) <= 1000
        )
    assert tail(desk) == list(range(1, 10))  # a topic gives way to others by its own oldest only
    desk.publish(data=b"x" * 100)
    desk.turn()
    assert tail(desk) == list(range(2, 11))


@pytest.mark.parametrize(
    ("limits", "served"),
    [
        (TailLimits(), list(range(1, 21))),
        (TailLimits(topic_items=7), list(range(14, 21))),
        (TailLimits(topic_bytes=70), list(range(14, 21))),
        (TailLimits(node_bytes=70), list(range(14, 21))),
        (TailLimits(topic_bytes=5), []),
    ],
)
def test_what_a_read_brought_is_put_before_the_tail_where_it_fits(
    limits: TailLimits, served: list[int]
) -> None:
    desk = Desk(limits=limits)
    desk.publish(20, data=b"x" * 10)
    link = desk.follow(EARLIEST)
    desk.settle()
    assert link.offsets == list(range(1, 21))
    assert tail(desk) == served
    assert desk.limits.used_bytes == held(desk.switchboard.topics[A]) == 10 * len(served)


def test_what_a_read_brought_goes_right_before_the_tail_or_nowhere() -> None:
    desk = Desk(page=5)
    desk.publish(12)
    start = Position(desk.head().epoch, 0)
    links = [desk.follow(start)]
    desk.answer()  # 1 to 5, which end before the tail's first, 13
    assert (links[0].offsets, tail(desk)) == ([1, 2, 3, 4, 5], [])
    desk.settle()
    assert tail(desk) == [11, 12]
    links.append(desk.follow(Position(start.epoch, 7)))
    desk.settle()
    assert tail(desk) == list(range(8, 13))
    links.append(desk.follow(Position(start.epoch, 5)))  # 6 to 10, of which 6 and 7 are new to the tail
    desk.settle()
    assert tail(desk) == list(range(6, 13))
    assert [link.offsets for link in links] == [list(range(1, 13)), list(range(8, 13)), list(range(6, 13))]


def test_frames_are_forgotten_with_the_tail() -> None:
    desk = Desk(limits=TailLimits(topic_items=8))
    live = desk.follow()
    desk.settle()
    desk.publish(8)
    desk.turn()
    start = Position(desk.head().epoch, 0)
    for _ in range(3):
        desk.follow(start)
    desk.settle()
    assert len(desk.format.encoded) == 16  # once for those who were live, once for those who came back
    desk.publish(8)
    desk.turn()
    desk.follow(start)
    desk.settle()
    topic = desk.switchboard.topics[A]
    first = tail(desk)[0]
    assert all(first <= offset <= 16 for frames in topic._frames.values() for offset in frames)
    assert live.offsets == list(range(1, 17))


def test_pending_publications_are_given_up_with_the_topic() -> None:
    desk = Desk()
    link = desk.follow()
    desk.settle()
    desk.publish(3)
    link.close(1000, "")
    desk.settle()
    assert (desk.limits.used_bytes, desk.format.encoded) == (0, [])
