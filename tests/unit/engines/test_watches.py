"""What a node watches, how far it was told, and whether its feed speaks."""

from heartwire.engines.watches import FeedPulse, Watches, went_back
from heartwire.types import Channel, Position, Publication

A, B = Channel("a"), Channel("b")


def publication(offset: int, epoch: str = "e", channel: Channel = A) -> Publication:
    return Publication(channel, epoch, offset, b"", True, None, 0)


def open_on(*channels: Channel) -> Watches:
    watches = Watches()
    for channel in channels:
        assert watches.add(channel)
    watches.opened()
    return watches


def test_a_read_waits_for_the_watch_to_be_confirmed() -> None:
    watches, called = open_on(A), list[str]()
    watches.when_confirmed(A, lambda: called.append("a"))
    watches.when_confirmed(B, lambda: called.append("unwatched"))
    assert called == ["unwatched"]
    watches.confirm(A)
    watches.when_confirmed(A, lambda: called.append("later"))
    assert called == ["unwatched", "a", "later"]


def test_no_read_waits_for_a_feed_that_is_away_or_goes() -> None:
    watches, called = open_on(A, B), list[str]()
    watches.when_confirmed(A, lambda: called.append("lost"))
    watches.when_confirmed(B, lambda: called.append("unwatched"))
    watches.remove(B)
    watches.lost()
    watches.when_confirmed(A, lambda: called.append("away"))
    assert called == ["unwatched", "lost", "away"]


def test_a_feed_of_some_channels_takes_only_theirs_with_it() -> None:
    watches = open_on(A, B)
    for channel in (A, B):
        watches.confirm(channel)
    watches.lost(lambda channel: channel == A)
    told = {channel: watches.get(channel) for channel in (A, B)}
    assert {channel: watch is not None and watch.is_confirmed for channel, watch in told.items()} == {
        A: False,
        B: True,
    }


def test_each_publication_of_a_watched_channel_is_handed_on_once() -> None:
    watches = open_on(A)
    taken = [watches.takes(one) for one in (publication(4), publication(5), publication(5), publication(3))]
    assert taken == [True, True, False, False]
    assert not watches.takes(publication(1, channel=B))
    assert watches.takes(publication(1, "other epoch"))


def test_what_is_no_news_makes_its_channel_suspect_at_once() -> None:
    watches = open_on(A, B)
    watches.takes(publication(5))
    assert watches.quiet(0) == []
    watches.takes(publication(4))
    assert (watches.quiet(0), watches.quiet(0)) == ([A], [])


def test_an_answer_waits_until_its_publication_is_told() -> None:
    watches, called = open_on(A), list[int]()
    assert not watches.when_told(A, Position("e", 1), lambda: called.append(0))
    watches.confirm(A)
    for offset in (1, 2, 3):
        assert watches.when_told(A, Position("e", offset), lambda offset=offset: called.append(offset))  # type: ignore[misc]
    assert watches.takes(publication(2))
    watches.told(A)
    assert called == [1, 2]
    assert not watches.when_told(A, Position("e", 2), lambda: called.append(9))
    watches.lost()
    assert called == [1, 2, 3]


def test_quiet_channels_come_once_a_round_and_busy_ones_do_not() -> None:
    channels = [Channel(f"{number}") for number in range(10)]
    watches = open_on(*channels)
    assert [one for _ in range(10) for one in watches.quiet(0.1)] == []  # nobody was quiet before
    watches.takes(publication(1, channel=channels[3]))
    found = [one for _ in range(10) for one in watches.quiet(0.1)]
    assert sorted(found) == sorted(one for one in channels if one != channels[3])
    assert sorted(one for _ in range(10) for one in watches.quiet(0.1)) == sorted(channels)


def test_few_channels_are_not_looked_at_more_often() -> None:
    watches = open_on(A)
    looks = [watches.quiet(0.01) for _ in range(400)]
    assert 2 <= sum(map(len, looks)) <= 4


def test_a_head_before_what_was_told_in_its_epoch_is_a_loss() -> None:
    assert went_back(Position("e", 5), Position("e", 4))
    assert not went_back(Position("e", 5), Position("e", 5))
    assert not went_back(Position("e", 5), Position("f", 4))
    watches = open_on(A)
    watches.takes(publication(7))
    assert watches.positions([A, B]) == [Position("e", 7), Position("", 0)]


def test_a_silent_feed_is_probed_and_then_given_up() -> None:
    pulse = FeedPulse(0.0)
    assert [pulse.due(now) for now in (4.9, 5.0, 5.1, 9.9)] == [None, "probe", None, None]
    pulse.heard(9.9)
    assert [pulse.due(now) for now in (14.8, 14.9, 19.8, 19.9)] == [None, "probe", None, "close"]
