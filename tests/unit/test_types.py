"""Positions and their tokens."""

import contextlib
import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import heartwire
from heartwire.types import EARLIEST, NOW, Channel, Member, Position, Publication, Publisher

EPOCHS = st.text("ABCXYZabcxyz0189_-", min_size=1, max_size=32)


@given(EPOCHS, st.integers(0, 10**18 - 1))
def test_position_is_read_from_its_token(epoch: str, offset: int) -> None:
    position = Position(epoch, offset)
    assert Position.parse(str(position)) == position


@given(st.text() | st.text("aA-_.019", max_size=6))
def test_token_is_read_only_where_a_position_wrote_it(token: str) -> None:
    with contextlib.suppress(ValueError):
        assert str(Position.parse(token)) == token


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "a",
        "a.",
        ".1",
        "a.01",
        "a.00",
        "a.-1",
        "a.1.2",
        "a b.1",
        "é.1",
        "a.٣",
        "a.1\n",
        "x" * 33 + ".1",
        "a." + "9" * 19,
    ],
)
def test_token_that_is_not_a_position_raises(token: str) -> None:
    with pytest.raises(ValueError, match="is not a position"):
        Position.parse(token)


def test_starts_are_distinct_and_not_positions() -> None:
    assert len({NOW, EARLIEST, Position("now", 0), Position("earliest", 0)}) == 4


def test_position_of_a_publication_is_right_after_it() -> None:
    assert Publication(Channel("a"), "e", 7, b"", True, None, 0).position == Position("e", 7)


VALUES = [
    EARLIEST,
    NOW,
    Position("e", 1),
    Publication(Channel("a"), "e", 1, b"x", True, Publisher("ann", "c", b"{}"), 5),
    Publisher("ann", "c", b"{}"),
    Member("c", "ann", b"{}", b"1"),
    heartwire.Disconnect(3000, "left"),
    heartwire.Gap("a", "e", 1, "e", 5),
    heartwire.Identity("ann", b"{}", 5.0),
    heartwire.Options(tick_s=2),
    heartwire.Received("a", {"x": 1}, Position("e", 1), "ann", "c", '{"x":1}', ""),
]
LIVE = {"Hub", "ConnectedClient", "Subscription"}
"""They belong to a process, and are no values."""


def test_there_is_one_of_each_public_value() -> None:
    named = {name for name in heartwire.__all__ if isinstance(getattr(heartwire, name), type)}
    errors = {name for name in named if issubclass(getattr(heartwire, name), Exception)}
    assert {type(value).__name__ for value in VALUES} - {"_Start"} == named - errors - LIVE


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "again",
    [lambda value: pickle.loads(pickle.dumps(value)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_a_value_is_the_same_after_a_pickle_and_a_copy(value: Any, again: Any) -> None:
    assert again(value) == value
    assert type(again(value)) is type(value)


@pytest.mark.parametrize("start", [EARLIEST, NOW], ids=repr)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_start_stays_the_one_it_is(start: Any, protocol: int) -> None:
    # Readers compare it with `is`: another equal one would be taken for a position.
    assert pickle.loads(pickle.dumps(start, protocol)) is start
    assert copy.copy(start) is start
    assert copy.deepcopy([start])[0] is start
    assert repr([EARLIEST, NOW]) == "[EARLIEST, NOW]"
