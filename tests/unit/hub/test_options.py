"""Options: durations, and values that are refused."""

from collections.abc import Sequence
from typing import Any, get_type_hints

import pytest

from heartwire import ConfigError
from heartwire.hub.options import HubArguments, HubOptions, NamespaceArguments, NamespaceOptions, duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24h", 86400),
        ("1h30m", 5400),
        ("300s", 300),
        ("500ms", 0.5),
        ("7d", 604800),
        ("1.5h", 5400),
        ("0s", 0),
        ("1m1ms", 60.001),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1y", "1h ", "1 h", "1.h", "1h30", "inf"])
def test_text_that_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration_s(text)


def test_marks_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="channel_user_separator"):
        HubOptions(channel_user_separator="")
    with pytest.raises(ConfigError, match="channel_regex"):
        NamespaceOptions(channel_regex="(")


# -- keyword arguments: the fields of the options, so that an editor completes them --------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "more"),
    [(HubArguments, HubOptions, {}), (NamespaceArguments, NamespaceOptions, {"history_ttl": str})],
)
def test_arguments_are_the_fields_of_the_options(
    arguments: Any, options: type, more: dict[str, type]
) -> None:
    wider = {  # a call may give any sequence, and namespaces as plain dicts
        tuple[str, ...]: Sequence[str],
        dict[str, NamespaceOptions]: dict[str, NamespaceOptions | dict[str, Any]],
    }
    fields = get_type_hints(options, include_extras=True)
    expected = {name: wider.get(kind, kind) for name, kind in fields.items()} | more
    assert get_type_hints(arguments, include_extras=True) == expected
    assert not arguments.__required_keys__
