"""Options that have a Centrifugo name, durations, and the example file."""

from pathlib import Path
from typing import Any

import pytest

from heartwire import ConfigError, Hub
from heartwire.hub.conversion import convert
from heartwire.hub.options import NamespaceOptions, duration_s
from heartwire.server.config import Settings, load
from heartwire.server.run import hub_from

EXAMPLE = Path(__file__).parents[3] / "heartwire.centrifugal.example.toml"


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
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration_s(text)


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


def test_secrets_are_not_shown_in_errors() -> None:
    with pytest.raises(ConfigError) as failure:
        convert({"api_key": 123456}, Settings, "file")
    assert "123456" not in str(failure.value)


def test_the_environment_sets_secrets() -> None:
    settings = load(None, {"HEARTWIRE_TOKEN_HMAC_SECRET_KEY": "true", "HEARTWIRE_API_KEY": "123"}, {})
    assert (settings.token_hmac_secret_key, settings.api_key) == ("true", "123")


def test_the_example_file_is_a_configuration() -> None:
    settings = load(str(EXAMPLE), {}, {})
    assert settings.has_tokens
    assert settings.namespaces["chat"].allow_publish_for_subscriber
    assert settings.namespaces["chat"].history_ttl_s == 86400
    assert hub_from(settings).node.tokens is not None


def test_every_commented_option_of_the_example_file_can_be_switched_on(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text().splitlines()
    switched_on = [
        line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line
        for line in lines
    ]
    assert switched_on != lines
    file = tmp_path / "heartwire.toml"
    file.write_text("\n".join(switched_on))
    load(str(file), {}, {})
