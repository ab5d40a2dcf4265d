"""Refusals, as tests compare them."""

from collections.abc import Callable

import pytest

from heartwire.errors import Refused


def refusal(act: Callable[[], object]) -> tuple[str, str]:
    """The code and the message of the refusal that ``act`` raises."""
    with pytest.raises(Refused) as caught:
        act()
    return caught.value.code.name, str(caught.value)
