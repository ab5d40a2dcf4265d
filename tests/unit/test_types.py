"""Positions and their tokens."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartwire.types import EARLIEST, NOW, Channel, Position, Publication

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
