"""Refusals, as tests compare them."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from heartwire.errors import Refused


def refusal(act: Callable[[], object]) -> tuple[str, str]:
    """The code and the message of the refusal that ``act`` raises."""
    with pytest.raises(Refused) as caught:
        act()
    return caught.value.code.name, str(caught.value)


@contextlib.contextmanager
def refused(name: str) -> Iterator[None]:
    """What is done within raises the refusal of this code."""
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.code.name == name
