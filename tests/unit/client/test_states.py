"""The states of the client's machine."""

from itertools import product
from typing import get_args

import pytest

from heartwire.client.states import TRANSITIONS, Event, State


def test_unlisted_transitions_raise() -> None:
    unlisted = set(product(State, get_args(Event))) - set(TRANSITIONS)
    assert (State.ONLINE, "network_down") in unlisted
    assert (State.CLOSED, "attempt") in unlisted
    for state, event in unlisted:
        with pytest.raises(KeyError):
            TRANSITIONS[state, event]


def test_closed_is_for_good() -> None:
    assert {after for (before, _), after in TRANSITIONS.items() if before is State.CLOSED} == {State.CLOSED}
