"""The state table of a subscription, pair by pair."""

from typing import Final

import pytest

from heartwire.core.subscription import TRANSITIONS, State
from heartwire.types import Position
from tests.unit.core.fakes import Desk

EVENTS: Final = ("located", "caught_up", "filled", "drained", "hole", "ended", "left")

# Rows: states. Columns: events, in the order above. "." cannot happen.
TABLE: Final = """
    JOINING      CATCHING_UP  .            JOINING      JOINING      .            .            CLOSED
    CATCHING_UP  .            LIVE         PAUSED       CATCHING_UP  CATCHING_UP  .            CLOSED
    PAUSED       .            .            PAUSED       CATCHING_UP  PAUSED       .            CLOSED
    LIVE         .            .            PAUSED       LIVE         CATCHING_UP  ENDED        CLOSED
    ENDED        .            .            ENDED        ENDED        .            .            CLOSED
    CLOSED       .            .            .            .            .            .            CLOSED
"""
CELLS: Final = [
    (State[row.split()[0]], event, None if cell == "." else State[cell])
    for row in TABLE.strip().splitlines()
    for event, cell in zip(EVENTS, row.split()[1:], strict=True)
]


@pytest.mark.parametrize(("state", "event", "expected"), CELLS)
def test_each_event_in_each_state(state: State, event: str, expected: State | None) -> None:
    (subscription,) = Desk().follow().subscriptions
    subscription.state = state
    if expected is None:
        with pytest.raises(KeyError):
            subscription.on(event)
        assert subscription.state is state
    else:
        subscription.on(event)
        assert subscription.state is expected


def test_table_names_every_state_and_event() -> None:
    assert {state for state, _, _ in CELLS} == set(State)
    assert {event for _, event in TRANSITIONS} == set(EVENTS)
    assert len(CELLS) == len(State) * len(EVENTS)


def test_position_is_its_topics_while_live_and_its_own_before() -> None:
    desk = Desk(page=2)
    desk.publish(5)
    epoch = desk.head().epoch
    (subscription,) = desk.follow(Position(epoch, 1)).subscriptions
    desk.answer(1)
    assert (subscription.state, subscription.position) == (State.CATCHING_UP, Position(epoch, 3))
    desk.settle()
    assert (subscription.state, subscription.position) == (State.LIVE, Position(epoch, 5))
    desk.publish()
    assert subscription.position == Position(epoch, 5)  # what has not been flushed has not been seen
    desk.turn()
    assert subscription.position == Position(epoch, 6)
