"""Options from calls and files: other units, and mistakes that are named."""

from typing import Any

import pytest

from heartwire import ConfigError, Hub
from heartwire.hub.conversion import convert
from heartwire.hub.options import NamespaceOptions
from heartwire.server.config import Settings


def test_history_ttl_is_history_ttl_s() -> None:
    assert convert({"history_ttl": "24h"}, NamespaceOptions, "x").history_ttl_s == 86400
    hub = Hub()
    hub.namespace("n", history_ttl="1m")
    assert hub.node.namespaces.retention("n:1").history_ttl_s == 60  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"history_ttl": "soon"}, "not a duration"),
        ({"history_ttl": 60}, "not a duration"),
        ({"history_ttl": "0s"}, "> 0"),
        ({"history_ttl": "1h", "history_ttl_s": 1}, "not both"),
        ({"allow_publish_for_subscribers": True}, "did you mean allow_publish_for_subscriber?"),
        ({"force_recovery_mode": "all"}, "force_recovery_mode"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as failure:
        convert(options, NamespaceOptions, "namespace 'n'")
    assert told in str(failure.value)


@pytest.mark.parametrize(
    ("name", "least", "below"),
    [("max_connections_per_address", 0, -1), ("max_channels_per_connection", 1, 0), ("stream_max_s", 0.1, 0)],
)
def test_numbers_have_a_least_value(name: str, least: float, below: float) -> None:
    assert getattr(convert({name: least}, Settings, "file"), name) == least
    with pytest.raises(ConfigError, match=name):
        convert({name: below}, Settings, "file")


def test_an_option_with_choices_lists_them() -> None:
    with pytest.raises(ConfigError) as failure:
        convert({"log_level": "loud"}, Settings, "file")
    assert str(failure.value) == "file: log_level = 'loud': one of debug, info, warning, error"


def test_secrets_are_not_shown_in_errors() -> None:
    with pytest.raises(ConfigError) as failure:
        convert({"api_key": 123456}, Settings, "file")
    assert "123456" not in str(failure.value)
