"""Fan-out: joining, catching up, going live, falling back, and engine answers that come late or never."""

import pytest

from heartwire.core.link import OwnSink
from heartwire.core.subscription import State, Subscription
from heartwire.core.topic import CHUNK_BYTES, TailLimits
from heartwire.engines.contract import Retention
from heartwire.types import EARLIEST, NOW, Channel, Member, Position, Publication
from tests.unit.core.fakes import A, B, Desk, FakeLink, RecordingFormat, Told, Wrote


def state(link: FakeLink) -> State:
    return link.subscriptions[0].state


# -- joining -------------------------------------------------------------------------------------------------


def test_follow_from_now_gets_what_comes_and_nothing_before() -> None:
    desk = Desk()
    desk.publish(3)
    link = desk.follow(NOW)
    assert state(link) is State.JOINING
    desk.answer()
    assert (state(link), link.told, link.offsets) == (State.LIVE, [(3, True)], [])
    desk.publish(2)
    desk.turn()
    assert link.offsets == [4, 5]


def test_follow_from_now_misses_nothing_that_came_during_its_read_and_left_memory() -> None:
    desk = Desk(limits=TailLimits(topic_items=2))
    desk.publish()
    link = desk.follow(NOW)  # its read is under way
    desk.publish(9)
    desk.turn()
    desk.settle()
    desk.publish()
    desk.turn()
    assert (link.told, link.offsets) == ([(1, True)], list(range(2, 12)))


def test_second_follower_from_now_needs_no_read() -> None:
    desk = Desk()
    desk.follow()
    desk.settle()
    desk.publish()
    link = desk.follow(NOW)  # the publication is on its way to the others; it came before
    assert (state(link), link.told, desk.asked) == (State.LIVE, [(1, True)], 1)
    desk.turn()
    assert link.offsets == []


@pytest.mark.parametrize("start", [EARLIEST, 0])
def test_follow_from_the_past_gets_history_then_live(start: object) -> None:
    desk = Desk(page=3)
    desk.publish(10)
    link = desk.follow(EARLIEST if start is EARLIEST else Position(desk.head().epoch, 0))
    desk.publish(2)
    desk.settle()
    desk.publish(2)
    desk.settle()
    assert (link.told, link.offsets) == ([(0, True)], list(range(1, 15)))
    assert state(link) is State.LIVE


def test_follow_a_position_in_the_tail_is_served_from_memory() -> None:
    desk = Desk()
    desk.follow()
    desk.settle()
    desk.publish(5)
    desk.turn()
    link = desk.follow(Position(desk.head().epoch, 2))
    assert (state(link), link.told, link.offsets, desk.asked) == (State.LIVE, [(2, True)], [3, 4, 5], 1)


def test_follow_a_position_that_is_pending_still_gets_each_once() -> None:
    desk = Desk()
    first = desk.follow()
    desk.settle()
    desk.publish(2)  # notified, not flushed
    second = desk.follow(Position(desk.head().epoch, 1))
    desk.settle()
    assert (first.offsets, second.offsets) == ([1, 2], [2])


def test_published_while_the_first_read_is_under_way_arrives_once() -> None:
    desk = Desk()
    desk.publish(2)
    link = desk.follow(NOW)
    desk.publish(3)
    desk.settle()
    assert (link.told, link.offsets) == ([(2, True)], [3, 4, 5])


@pytest.mark.parametrize("position", [Position("other", 1), Position("other", 0), Position("", 10**17)])
def test_foreign_position_is_a_gap_and_gets_all_that_is_kept(position: Position) -> None:
    desk = Desk()
    desk.publish(3)
    link = desk.follow(position)
    desk.settle()
    assert (link.told, link.offsets) == ([(0, False)], [1, 2, 3])


def test_trimmed_position_is_a_gap_and_gets_all_that_is_kept() -> None:
    desk = Desk(keep=Retention(2, 86_400))
    desk.publish(10)
    link = desk.follow(Position(desk.head().epoch, 3))
    desk.settle()
    assert (link.told, link.offsets) == ([(8, False)], [9, 10])


def test_position_in_the_future_is_a_gap() -> None:
    desk = Desk()
    desk.publish(3)
    link = desk.follow(Position(desk.head().epoch, 9))
    desk.settle()
    assert link.told == [(0, False)]


def test_gap_closes_a_link_whose_format_cannot_report_it() -> None:
    desk = Desk()
    desk.publish(3)
    link = desk.follow(Position("other", 1), format=RecordingFormat(strict=True))
    desk.settle()
    epoch = desk.head().epoch
    assert (link.closed, link.payloads) == ((3010, f"insufficient state: position is now {epoch}.0"), [])
    assert desk.switchboard.topics == {}


def test_link_whose_format_has_no_start_gets_no_start() -> None:
    desk = Desk()
    link = desk.follow(NOW, format=RecordingFormat(strict=True))
    desk.settle()
    desk.publish()
    desk.turn()
    assert [type(payload) for payload in link.payloads] == [Wrote]


# -- one write per tick, one encoding per publication --------------------------------------------------------


def test_publications_of_a_turn_are_one_write_per_subscriber() -> None:
    desk = Desk()
    links = [desk.follow() for _ in range(5)]
    desk.settle()
    desk.publish(10)
    assert [link.writes for link in links] == [[]] * 5
    assert len(desk.turns) == 1
    desk.turn()
    assert [len(link.writes) for link in links] == [1] * 5
    assert len({id(link.writes[0]) for link in links}) == 1  # the same payload
    assert (len(desk.format.encoded), desk.format.joins) == (10, 1)


def test_each_format_encodes_a_publication_once() -> None:
    desk = Desk()
    other = RecordingFormat()
    for number in range(6):
        desk.follow(format=other if number % 2 else None, echo=number > 1)
    desk.settle()
    desk.publish(3, data=b"x" * 300_000)  # larger than the tail of a topic
    desk.turn()
    assert [position.offset for position in desk.format.encoded] == [1, 2, 3]
    assert [position.offset for position in other.encoded] == [1, 2, 3]


def test_formats_with_the_same_function_share_its_frames() -> None:
    desk = Desk()

    class Sharing(RecordingFormat):
        encode = desk.format.encode

    links = [desk.follow(), desk.follow(format=Sharing())]
    desk.settle()
    desk.publish(3)
    desk.turn()
    assert [link.offsets for link in links] == [[1, 2, 3], [1, 2, 3]]
    assert len(desk.format.encoded) == 3


def test_crowd_that_comes_back_is_encoded_for_once() -> None:
    desk = Desk(limits=TailLimits(topic_items=5))
    desk.publish(200)
    start = Position(desk.head().epoch, 0)
    links = [desk.follow(start) for _ in range(50)]
    desk.settle()
    assert all(link.offsets == list(range(1, 201)) for link in links)
    assert (desk.asked, len(desk.format.encoded)) == (1, 200)
    late = desk.follow(Position(start.epoch, 197))
    desk.settle()
    assert (late.offsets, desk.asked, len(desk.format.encoded)) == ([198, 199, 200], 1, 200)


def test_nothing_is_encoded_without_followers() -> None:
    desk = Desk()
    link = desk.follow()
    other = desk.follow(channel=B)
    desk.settle()
    link.close(1000, "")
    desk.publish(5)
    desk.turn()
    assert (desk.format.encoded, desk.format.joins) == ([], 0)
    other.fill()
    desk.publish(5, channel=B)
    desk.turn()
    assert (desk.format.encoded, desk.format.joins) == ([], 0)


def test_turn_that_makes_a_tail_twice_as_full_as_it_may_be_is_written_at_once() -> None:
    desk = Desk(limits=TailLimits(topic_items=10, topic_bytes=100))
    link = desk.follow()
    desk.settle()
    desk.publish(20, data=b"")
    assert link.offsets == []
    desk.publish(1, data=b"")
    assert link.offsets == list(range(1, 22))
    desk.publish(3, data=b"x" * 51)
    assert link.offsets == list(range(1, 22))
    desk.publish(1, data=b"x" * 51)
    assert link.offsets == list(range(1, 26))
    desk.publish()
    desk.settle()
    assert link.offsets == list(range(1, 27))


def test_several_channels_share_a_turn() -> None:
    desk = Desk()
    link = desk.follow()
    desk.follow(channel=B, link=link)
    desk.settle()
    desk.publish(2)
    desk.publish(2, channel=B)
    desk.publish(1)
    assert len(desk.turns) == 1
    desk.turn()
    assert [(wrote.channel, len(wrote.publications)) for wrote in link.writes] == [(A, 3), (B, 2)]


def test_payload_has_the_position_after_it() -> None:
    desk = Desk()
    link = desk.follow()
    own = desk.follow(echo=False)
    desk.settle()
    desk.publish(2)
    desk.publish(2, origin=own.serial)
    desk.turn()
    assert [wrote.position.offset for wrote in link.writes + own.writes] == [4, 4]


def test_own_publications_are_left_out_without_echo() -> None:
    desk = Desk()
    link = desk.follow(echo=False)
    other = desk.follow()
    desk.settle()
    for origin in (0, link.serial, other.serial, link.serial):
        desk.publish(origin=origin)
    desk.turn()
    desk.publish(3, origin=link.serial)
    desk.turn()
    assert link.offsets == [1, 3]
    assert other.offsets == [1, 2, 3, 4, 5, 6, 7]
    late = desk.follow(Position(desk.head().epoch, 0), link=link, echo=False)
    assert late.offsets == [1, 3, 1, 3]
    link.fill()
    link.drain()
    desk.publish()
    desk.settle()
    assert link.offsets[4:] == [8, 8]


# -- backpressure --------------------------------------------------------------------------------------------


def test_full_link_leaves_the_live_set_and_is_caught_up_without_gap_or_double() -> None:
    desk = Desk(limits=TailLimits(topic_items=8))
    link = desk.follow(room=100)
    quick = desk.follow()
    desk.settle()
    for _ in range(20):
        desk.publish(3, data=b"x" * 20)
        desk.turn()
    assert state(link) is State.PAUSED
    assert link.held <= 100 + 60  # the payload that filled it, and nothing more
    assert quick.offsets == list(range(1, 61))
    for _ in range(60):
        link.drain()
        desk.settle()
    assert link.offsets == list(range(1, 61))
    assert state(link) is State.LIVE


def test_catching_up_hands_over_in_chunks_that_a_full_link_can_stop() -> None:
    desk = Desk()
    desk.publish(40, data=b"x" * (CHUNK_BYTES // 16))
    link = desk.follow(EARLIEST, room=1)
    desk.settle()
    assert [len(wrote.publications) for wrote in link.writes] == [16]
    link.drain()  # from the tail now
    assert [len(wrote.publications) for wrote in link.writes] == [16, 16]
    link.drain()
    link.drain()
    desk.settle()
    assert link.offsets == list(range(1, 41))


def test_full_before_anything_is_known_starts_where_it_asked() -> None:
    desk = Desk()
    desk.publish(3)
    link = desk.follow(EARLIEST)
    link.fill()
    desk.settle()
    assert (state(link), link.offsets) == (State.PAUSED, [])
    desk.publish(2)
    desk.settle()
    link.drain()
    desk.settle()
    assert (link.told, link.offsets) == ([(0, True)], [1, 2, 3, 4, 5])


def test_drained_before_anything_is_known_changes_nothing() -> None:
    desk = Desk()
    desk.publish(3)
    link = desk.follow(EARLIEST)
    link.fill()
    link.drain()
    desk.settle()
    assert link.offsets == [1, 2, 3]


def test_filled_again_while_it_reads_gets_each_once() -> None:
    # The link fills and drains by another channel while a read is under way: it asked twice, and was handed
    # the answer twice.
    desk = Desk(page=3)
    desk.publish(10)
    link = desk.follow(EARLIEST)
    desk.answer()
    assert (state(link), link.offsets) == (State.CATCHING_UP, [1, 2, 3])
    link.fill()
    link.drain()
    link.fill()
    link.drain()
    desk.settle()
    assert link.offsets == list(range(1, 11))


def test_served_from_memory_while_it_reads_gets_each_once() -> None:
    # Another reader's answer put into the tail what this one had asked the engine for.
    desk = Desk(page=3)
    desk.publish(4)
    epoch = desk.head().epoch
    slow = desk.follow(Position(epoch, 0))
    desk.answer()
    assert slow.offsets == [1, 2, 3]
    slow.fill()
    quick = desk.follow(Position(epoch, 2))  # asks for 3 and 4
    desk.answer(0)
    asked_by_slow, desk.reads = desk.reads[:1], desk.reads[1:]
    desk.answer()
    slow.drain()
    assert slow.offsets == [1, 2, 3, 4]
    desk.reads = asked_by_slow
    desk.settle()
    assert (slow.offsets, quick.offsets) == ([1, 2, 3, 4], [3, 4])


def test_position_trimmed_while_full_is_a_gap() -> None:
    desk = Desk(keep=Retention(5, 86_400), limits=TailLimits(topic_items=2))
    link = desk.follow()
    desk.settle()
    link.fill()
    desk.publish(10)
    desk.settle()
    link.drain()
    desk.settle()
    assert (link.told, link.offsets) == ([(0, True), (5, False)], [6, 7, 8, 9, 10])


def test_pause_and_resume_of_a_closed_subscription_do_nothing() -> None:
    desk = Desk()
    link = desk.follow()
    link.close(1000, "")
    link.fill()
    link.drain()
    desk.switchboard.leave(link.subscriptions[0])
    desk.settle()
    assert (state(link), link.payloads) == (State.CLOSED, [])


def test_paused_link_can_leave() -> None:
    desk = Desk()
    link = desk.follow()
    desk.settle()
    link.fill()
    link.close(1000, "")
    assert desk.switchboard.topics == {}


# -- when the engine's word comes late, twice, out of turn, or not at all ------------------------------------


def test_missed_notification_is_healed_by_reading() -> None:
    desk = Desk()
    links = [desk.follow(), desk.follow(echo=False)]
    desk.settle()
    desk.publish(2)
    desk.publish_unheard(3)
    desk.publish(1)
    desk.settle()
    for link in links:
        assert (link.told, link.offsets, state(link)) == ([(0, True)], [1, 2, 3, 4, 5, 6], State.LIVE)


def test_hole_leaves_full_and_joining_links_as_they_are() -> None:
    desk = Desk()
    full, joining = desk.follow(), desk.follow()
    desk.settle()
    full.fill()
    joining = desk.follow(EARLIEST)
    desk.publish_unheard(3)
    desk.publish(1)
    assert (state(full), state(joining)) == (State.PAUSED, State.JOINING)
    full.drain()
    desk.settle()
    assert full.offsets == joining.offsets == [1, 2, 3, 4]


def test_late_and_doubled_notifications_are_nothing_new() -> None:
    desk = Desk()
    link = desk.follow()
    desk.settle()
    late = desk.publish_unheard(3)
    desk.publish(1)
    desk.settle()
    assert link.offsets == [1, 2, 3, 4]
    for publication in [*late, *late]:
        desk.switchboard.notify(publication)
    desk.settle()
    assert link.offsets == [1, 2, 3, 4]
    desk.publish(1)
    desk.settle()
    assert link.offsets == [1, 2, 3, 4, 5]


def test_reader_ahead_of_the_notifications_waits_for_them() -> None:
    desk = Desk()
    live = desk.follow()
    desk.settle()
    late = desk.publish_unheard(3)
    ahead = desk.follow(EARLIEST)
    desk.settle()
    assert (ahead.offsets, live.offsets, state(ahead)) == ([1, 2, 3], [], State.CATCHING_UP)
    asked = desk.asked
    for publication in late[:2]:
        desk.switchboard.notify(publication)
    desk.settle()
    assert (live.offsets, state(ahead)) == ([1, 2], State.CATCHING_UP)
    desk.switchboard.notify(late[2])
    desk.settle()
    assert (state(ahead), desk.asked) == (State.LIVE, asked)
    desk.publish(2)
    desk.settle()
    assert ahead.offsets == live.offsets == [1, 2, 3, 4, 5]


def test_reader_ahead_of_the_flush_brings_it_about() -> None:
    desk = Desk()
    live = desk.follow()
    desk.settle()
    desk.publish(2)
    ahead = desk.follow(EARLIEST)
    desk.answer()  # in the same turn
    assert (ahead.offsets, live.offsets, state(ahead)) == ([1, 2], [1, 2], State.LIVE)
    desk.settle()
    assert ahead.offsets == live.offsets == [1, 2]


def test_reader_ahead_that_fills_or_leaves_is_forgotten_there() -> None:
    desk = Desk()
    desk.follow()
    desk.settle()
    late = desk.publish_unheard(2)
    full, gone = desk.follow(EARLIEST), desk.follow(EARLIEST)
    desk.settle()
    full.fill()
    gone.close(1000, "")
    assert gone.subscriptions[0] not in desk.switchboard.topics[A].ahead
    for publication in late:
        desk.switchboard.notify(publication)
    desk.settle()
    assert (state(full), full.offsets, gone.offsets) == (State.PAUSED, [1, 2], [1, 2])
    full.drain()
    assert state(full) is State.LIVE


def test_notifications_of_a_channel_without_subscribers_do_nothing() -> None:
    desk = Desk()
    desk.publish(3)
    assert (desk.turns, desk.reads, desk.switchboard.topics) == ([], [], {})


def test_reads_from_one_place_are_one_read() -> None:
    desk = Desk()
    desk.publish(5)
    epoch = desk.head().epoch
    links = [desk.follow(start) for start in (NOW, EARLIEST, Position(epoch, 2)) for _ in range(4)]
    assert len(desk.reads) == 3
    desk.settle()
    assert desk.asked == 3
    assert [link.offsets for link in links] == [[]] * 4 + [[1, 2, 3, 4, 5]] * 4 + [[3, 4, 5]] * 4


def test_failed_read_names_its_readers_and_others_go_on() -> None:
    desk = Desk()
    desk.publish(2)
    links = [desk.follow(EARLIEST), desk.follow(EARLIEST)]
    other = desk.follow(NOW)
    failed = desk.reads.pop(0)
    waited = desk.switchboard.read_failed(failed.topic, failed.start)
    assert [subscription.link for subscription in waited] == links
    assert desk.switchboard.read_failed(failed.topic, failed.start) == []
    for link in links:
        link.close(3004, "")
    again = desk.follow(EARLIEST)
    desk.settle()
    assert (other.told, again.offsets) == ([(2, True)], [1, 2])


def test_answer_for_readers_that_left_is_dropped() -> None:
    desk = Desk()
    desk.publish(3)
    link = desk.follow(EARLIEST)
    link.close(1000, "")
    again = desk.follow(EARLIEST)
    desk.settle()
    assert (link.payloads, again.offsets) == ([], [1, 2, 3])


def test_answer_for_an_abandoned_topic_holds_no_memory() -> None:
    # Every read whose asker had left took its bytes out of the node's budget for good.
    desk = Desk()
    desk.publish(3, data=b"x" * 100)
    for start in (EARLIEST, NOW):
        desk.follow(start).close(1000, "")
        desk.settle()
    assert desk.limits.used_bytes == 0
    assert desk.switchboard.topics == {}


def test_link_whose_socket_broke_harms_nobody_else() -> None:
    desk = Desk()
    desk.publish(2)
    broken = [
        desk.follow(EARLIEST),
        desk.follow(EARLIEST, echo=False),
        desk.follow(NOW),
        desk.follow(NOW, echo=False),
    ]
    for link in broken:
        link.broken = True
    links = [desk.follow(EARLIEST), desk.follow(EARLIEST, echo=False)]
    desk.settle()
    desk.publish(2)
    desk.settle()
    assert [link.offsets for link in links] == [[1, 2, 3, 4], [1, 2, 3, 4]]


# -- when the engine loses a stream --------------------------------------------------------------------------


def test_lost_stream_is_a_gap_to_all_subscribers() -> None:
    desk = Desk()
    live, full = desk.follow(), desk.follow()
    desk.settle()
    desk.publish(3)
    desk.turn()
    full.fill()
    desk.restart()
    desk.publish(2)
    full.drain()
    desk.settle()
    epoch = desk.head().epoch
    for link in (live, full):
        assert (link.told, link.offsets) == ([(0, True), (0, False)], [1, 2, 3, 1, 2])
        assert {publication.epoch for publication in link.publications[3:]} == {epoch}


def test_stream_lost_in_silence_is_noticed_by_the_first_read() -> None:
    # A reader that met the new epoch before any notification of it read on and on, without an end.
    desk = Desk()
    live = desk.follow()
    desk.settle()
    desk.publish(3)
    desk.turn()
    desk.restart()
    desk.publish_unheard(2)
    reader = desk.follow(EARLIEST)
    desk.settle()
    assert (reader.told, reader.offsets, state(reader)) == ([(0, True)], [1, 2], State.LIVE)
    assert (live.told, live.offsets) == ([(0, True), (0, False)], [1, 2, 3, 1, 2])
    desk.publish()
    desk.settle()
    assert (reader.offsets, live.offsets) == ([1, 2, 3], [1, 2, 3, 1, 2, 3])


def test_stream_lost_before_it_was_born_again_is_noticed() -> None:
    desk = Desk()
    live = desk.follow()
    desk.settle()
    desk.restart()
    reader = desk.follow(EARLIEST)
    desk.settle()
    assert (live.told, reader.told) == ([(0, True), (0, False)], [(0, True)])
    desk.publish()
    desk.settle()
    assert live.offsets == reader.offsets == [1]


def test_answer_of_a_former_life_is_not_handed_over() -> None:
    # Frames are remembered by offset: an answer of a former life could have been handed the new life's
    # frames.
    desk = Desk()
    desk.publish(5)
    live = desk.follow()
    desk.settle()
    joining = desk.follow(EARLIEST)
    old = Position(desk.head().epoch, 2)
    back = desk.follow(old)
    stale = desk.reads
    desk.reads = []
    desk.restart()
    desk.publish(5)
    for read in stale:
        desk.switchboard.read_done(*read)
    desk.settle()
    assert (joining.told, back.told) == ([(0, True)], [(0, False)])
    assert joining.publications == back.publications == live.publications
    assert {publication.epoch for publication in live.publications} == {desk.head().epoch}


def test_answer_of_a_former_life_leaves_the_gone_and_the_full_alone() -> None:
    desk = Desk(page=2)
    desk.publish(5)
    gone, full = desk.follow(EARLIEST), desk.follow(EARLIEST)
    desk.follow(NOW)
    desk.answer()
    gone.close(1000, "")
    full.fill()
    desk.restart()
    desk.publish(1)
    desk.settle()
    assert (gone.offsets, full.offsets) == ([1, 2], [1, 2])
    full.drain()
    desk.settle()
    assert full.told == [(0, True), (0, False)]


# -- topics that nobody follows for a while ------------------------------------------------------------------


def test_tail_lingers_for_readers_that_come_back_soon() -> None:
    desk = Desk(lingering=1)
    desk.follow()
    desk.settle()
    link = desk.follow()
    for gone in (link, desk.follow(channel=B)):  # what is known of `b` is nothing yet: it does not linger
        gone.close(1000, "")
    desk.publish(2)
    desk.settle()
    left = desk.switchboard.topics[A]
    next(iter(left.subscriptions)).link.close(1000, "")
    assert list(desk.switchboard.topics) == [A]
    desk.publish(3)
    desk.settle()
    asked = desk.asked
    back = desk.follow(Position(desk.head().epoch, 1))
    assert (state(back), back.offsets, desk.asked) == (State.LIVE, [2, 3, 4, 5], asked)
    desk.switchboard.sweep()
    desk.switchboard.sweep()
    desk.publish()
    desk.settle()
    assert back.offsets == [2, 3, 4, 5, 6]


def test_lingering_topics_are_bounded_and_swept() -> None:
    desk = Desk(lingering=2)
    links = [desk.follow(channel=Channel(f"{number}")) for number in range(4)]
    desk.settle()
    for number in range(4):
        desk.publish(channel=Channel(f"{number}"))
    desk.settle()
    for link in links:
        link.close(1000, "")
    assert list(desk.switchboard.topics) == ["0", "1"]
    assert desk.limits.used_bytes == 2
    desk.switchboard.sweep()
    back = desk.follow(channel=Channel("1"))
    desk.switchboard.sweep()
    assert list(desk.switchboard.topics) == ["1"]
    back.close(1000, "")
    desk.switchboard.sweep()
    assert list(desk.switchboard.topics) == ["1"]
    desk.switchboard.sweep()
    assert (desk.limits.used_bytes, desk.switchboard.topics) == (0, {})


def test_answer_for_a_lingering_topic_without_followers_is_dropped() -> None:
    desk = Desk(lingering=1)
    desk.publish(5)
    first = desk.follow(NOW)
    desk.settle()
    reader = desk.follow(EARLIEST)
    reader.close(1000, "")
    first.close(1000, "")
    desk.settle()
    assert desk.limits.used_bytes == 0
    again = desk.follow(EARLIEST)
    desk.settle()
    assert again.offsets == [1, 2, 3, 4, 5]


# -- nothing left --------------------------------------------------------------------------------------------


def test_everything_is_given_back_once_all_have_left() -> None:
    desk = Desk()
    links = [desk.follow(channel=Channel(f"{number % 3}")) for number in range(9)]
    desk.settle()
    for number in range(3):
        desk.publish(100, channel=Channel(f"{number}"), data=b"x" * 100)
    desk.turn()
    assert desk.limits.used_bytes == 3 * 100 * 100
    desk.publish(5, channel=Channel("1"))
    for link in links:
        link.close(1000, "")
    desk.settle()
    assert (desk.limits.used_bytes, desk.switchboard.topics) == (0, {})


def test_leaving_twice_leaves_a_successor_alone() -> None:
    desk = Desk()
    link = desk.follow()
    desk.switchboard.leave(link.subscriptions[0])
    other = desk.follow()
    desk.switchboard.leave(link.subscriptions[0])
    desk.settle()
    desk.publish()
    desk.settle()
    assert (link.payloads, other.payloads[0]) == ([], Told(A, Position(desk.head().epoch, 0), True))
    assert other.offsets == [1]


# -- payloads held for the end of a turn ------------------------------------------------------------------


class _Bytes:
    """`WireFormat` of bytes: offsets of publications, and nothing for a start."""

    join = None

    def encode(self, publication: Publication) -> bytes:
        return b"p%d." % publication.offset

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> None:
        return None

    def ended(self, end: Publication) -> None:
        return None


class _Sink(OwnSink):
    """A link that keeps bytes."""

    def __init__(self) -> None:
        self.serial = 1
        self.paused = False
        self.member: Member | None = None
        self.written: list[bytes] = []

    def write(self, payload: bytes) -> None:
        self.written.append(payload)

    def close(self, code: int, reason: str) -> None:
        raise AssertionError


def _follow(desk: Desk) -> _Sink:
    link = _Sink()
    desk.switchboard.follow(link, A, _Bytes(), NOW)
    desk.answer()
    desk.turn()
    return link


def test_held_payloads_leave_with_the_publications_of_the_turn_in_one_write() -> None:
    desk = Desk()
    link, other = _follow(desk), _follow(desk)
    desk.switchboard.hold(link, b"reply 1.")
    desk.publish()
    desk.switchboard.hold(link, b"reply 2.")
    assert link.written == []
    desk.turn()
    assert link.written == [b"reply 1.reply 2.p1."]
    assert other.written == [b"p1."]
    desk.turn()
    assert len(link.written) == 1


def test_flush_in_the_middle_of_a_turn_keeps_the_order_of_what_is_held() -> None:
    desk = Desk(limits=TailLimits(topic_items=2))
    link = _follow(desk)
    desk.switchboard.hold(link, b"reply.")
    desk.publish(5)  # more than twice the bound: flushed at once
    desk.switchboard.hold(link, b"reply.")
    desk.turn()
    assert b"".join(link.written) == b"reply.p1.p2.p3.p4.p5.reply."


def test_release_writes_at_once_and_forgets_what_is_lost() -> None:
    desk = Desk()
    link = _Sink()
    desk.switchboard.hold(link, b"a")
    desk.switchboard.release(link)
    assert link.written == [b"a"]
    desk.switchboard.hold(link, b"b")
    desk.switchboard.release(link, is_lost=True)
    desk.turn()
    assert link.written == [b"a"]


class _Pipe:
    """A sink that is full from its first byte on."""

    def __init__(self, link: "_NativeLink") -> None:
        self.link = link
        self.taken: list[bytes] = []

    def write(self, payload: bytes) -> None:
        self.taken.append(payload)
        self.link.fill()


class _NativeLink:
    """A link like the native ones: what is written is held until the turn ends, and only then fills it."""

    def __init__(self, desk: Desk) -> None:
        self.serial = 1
        self.paused = False
        self.member: Member | None = None
        self.sink = _Pipe(self)
        self.subscriptions: list[Subscription] = []
        self._desk = desk

    def write(self, payload: bytes) -> None:
        self._desk.switchboard.hold(self.sink, payload)

    def fill(self) -> None:
        self.paused = True
        for subscription in self.subscriptions:
            self._desk.switchboard.pause(subscription)

    def close(self, code: int, reason: str) -> None:
        raise AssertionError


@pytest.mark.parametrize("from_memory", [True, False])
def test_reader_that_takes_nothing_is_given_one_chunk_of_what_it_missed(from_memory: bool) -> None:
    desk = Desk(page=1000, limits=TailLimits() if from_memory else TailLimits(topic_items=1))
    desk.follow()
    desk.settle()
    desk.publish(100, data=b"x" * 1024)
    desk.turn()
    desk.settle()
    link = _NativeLink(desk)
    start = Position(desk.head().epoch, 0)
    link.subscriptions.append(desk.switchboard.follow(link, A, _Bytes(), start))
    desk.settle()
    [taken] = link.sink.taken
    assert taken.count(b"p") == CHUNK_BYTES // 1024


# -- a feed that loses something -----------------------------------------------------------------------------


def test_what_a_feed_has_lost_is_read_once_the_head_is_known() -> None:
    desk = Desk()
    link, other = desk.follow(), desk.follow()
    desk.settle()
    desk.publish()
    desk.settle()
    desk.publish_unheard(3)
    asked = desk.asked
    desk.switchboard.behind(A, desk.head())
    desk.settle()
    desk.publish()
    desk.settle()
    assert link.offsets == other.offsets == [1, 2, 3, 4, 5]
    assert desk.asked == asked + 1  # one read for all who share a position


def test_a_head_that_was_reached_or_of_a_channel_without_readers_changes_nothing() -> None:
    desk = Desk()
    link = desk.follow()
    desk.settle()
    desk.publish(2)
    desk.settle()
    for head in (desk.head(), Position(desk.head().epoch, 1)):
        desk.switchboard.behind(A, head)
    desk.switchboard.behind(B, Position("other", 7))
    assert (desk.reads, link.offsets) == ([], [1, 2])


def test_a_head_of_another_life_is_a_gap_for_those_who_were_there() -> None:
    desk = Desk()
    link = desk.follow()
    desk.settle()
    desk.publish(2)
    desk.settle()
    desk.restart()
    desk.publish_unheard()
    desk.switchboard.behind(A, desk.head())
    desk.settle()
    assert link.told[-1] == (0, False)
    assert link.offsets == [1, 2, 1]


def test_a_store_that_has_lost_everything_is_not_asked_by_each_topic() -> None:
    desk = Desk()
    link, other = desk.follow(), desk.follow(start=EARLIEST)
    desk.settle()
    desk.publish(2)
    desk.settle()
    asked = desk.asked
    desk.restart()
    desk.switchboard.behind(A, desk.head())
    assert link.told[-1] == other.told[-1] == (0, False)
    desk.publish()
    desk.settle()
    assert link.offsets == other.offsets == [1, 2, 1]
    assert desk.asked == asked


def test_topics_are_watched_from_before_their_first_read_to_their_end() -> None:
    told: list[object] = []
    desk = Desk(watch=lambda channel, begins: told.append((channel, begins, len(desk.reads))))
    link = desk.follow()
    desk.follow(link=link)
    desk.settle()
    for subscription in link.subscriptions:
        desk.switchboard.leave(subscription)
    assert told == [(A, True, 0), (A, False, 0)]
