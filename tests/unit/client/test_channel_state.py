"""The state of one channel: what is new, and what is a gap."""

import pytest

from heartwire.client.channel_state import ChannelState
from heartwire.client.wire import Pub
from heartwire.types import Position


def test_recovered_from_another_epoch_takes_its_name() -> None:
    state = ChannelState("a", Position("", 3))
    assert state.subscribed("e", 9, was_recovering=True, recovered=True, asked=state.position) is None
    assert state.position == Position("e", 3)


def test_news_stop_before_a_hole() -> None:
    state = ChannelState("a", Position("e", 3))
    state.subscribed("e", 3, was_recovering=True, recovered=True, asked=state.position)
    assert [
        pub.offset for pub in state.news([Pub(offset=3), Pub(offset=4), Pub(offset=6), Pub(offset=7)])
    ] == [4]
    assert not state.is_live


@pytest.mark.parametrize(("offset", "is_gap"), [(3, False), (5, False), (6, True)])
def test_another_connection_has_gone_on_since_it_was_asked(offset: int, *, is_gap: bool) -> None:
    state = ChannelState("a", Position("e", 5))
    gap = state.subscribed("e", offset, was_recovering=True, recovered=False, asked=Position("e", 3))
    assert (gap is not None) == is_gap


def test_a_server_that_lost_the_end_of_its_stream_is_believed() -> None:
    state = ChannelState("a", Position("e", 5))
    gap = state.subscribed("e", 2, was_recovering=True, recovered=False, asked=Position("e", 5))
    assert gap == (Position("e", 5), Position("e", 2))
