"""The client's options."""

from typing import Any

import pytest

from heartwire.client.options import Options, check_options
from heartwire.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("transports", ()),
        ("transports", ("carrier pigeon",)),
        ("first_transport", "carrier pigeon"),
        ("tick_s", 0),
        ("max_in_flight", -1),
        ("ping_interval_s", "25"),
        ("poll_wait_s", 56),
    ],
)
def test_options_that_cannot_be_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        check_options(Options()._replace(**{name: value}))


def test_first_transport_is_of_the_ladder() -> None:
    with pytest.raises(ConfigError, match="first_transport"):
        check_options(Options(transports=("poll",), first_transport="sse"))


def test_defaults_are_good() -> None:
    check_options(Options())
