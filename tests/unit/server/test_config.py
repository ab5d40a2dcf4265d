"""Settings from the environment and from files; the example file."""

from pathlib import Path

import pytest

from heartwire.errors import ConfigError
from heartwire.server.config import load, service_links
from heartwire.server.run import hub_from

EXAMPLE = Path(__file__).parents[3] / "heartwire.centrifugal.example.toml"


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


KUBERNETES = {
    "HEARTWIRE_PORT": "tcp://10.96.0.12:8000",
    "HEARTWIRE_SERVICE_HOST": "10.96.0.12",
    "HEARTWIRE_SERVICE_PORT": "8000",
    "HEARTWIRE_SERVICE_PORT_HTTP": "8000",
    "HEARTWIRE_PORT_8000_TCP": "tcp://10.96.0.12:8000",
    "HEARTWIRE_PORT_8000_TCP_PROTO": "tcp",
    "HEARTWIRE_PORT_8000_TCP_PORT": "8000",
    "HEARTWIRE_PORT_8000_TCP_ADDR": "10.96.0.12",
    "HEARTWIRE_EU_WEST_SERVICE_HOST": "10.96.0.13",
    "HEARTWIRE_EU_WEST_PORT": "tcp://10.96.0.13:8000",
}


def test_variables_of_a_kubernetes_service_of_our_name_are_not_options() -> None:
    """A Service named `heartwire` ended the start of every pod beside it."""
    told: list[str] = []
    for environment in (KUBERNETES, KUBERNETES | {"HEARTWIRE_MAX_CONNECTIONS": "7"}):
        settings = load(None, environment, {}, warn=told.append)
        assert settings.port == 8000
    assert (settings.max_connections, told) == (7, [])
    assert load(None, KUBERNETES, {}).port == 8000  # not strictly speaking either
    assert service_links({**KUBERNETES, "PATH": "tcp://x", "HEARTWIRE_PORT": "9000"}) == [*KUBERNETES][1:]


def test_an_unknown_variable_is_a_warning_and_strictly_an_error() -> None:
    told: list[str] = []
    assert load(None, {"HEARTWIRE_PROT": "1", "HEARTWIRE_PORT": "9"}, {}, warn=told.append).port == 9
    (warning,) = told
    assert "HEARTWIRE_PROT" in warning
    assert "did you mean port?" in warning
    with pytest.raises(ConfigError, match="did you mean port"):
        load(None, {"HEARTWIRE_PROT": "1"}, {})
    with pytest.raises(ConfigError, match="Expected `int`"):  # what is known has to be right
        load(None, {"HEARTWIRE_PORT": "abc"}, {}, warn=told.append)


@pytest.mark.parametrize("mode", ["660", "0600", "0777"])
def test_the_mode_of_the_unix_socket_is_octal(mode: str) -> None:
    assert load(None, {"HEARTWIRE_UDS_MODE": mode}, {}).uds_mode == mode


@pytest.mark.parametrize("mode", ["0o660", "8", "rw", "0888", "00660"])
def test_another_mode_is_an_error(mode: str) -> None:
    with pytest.raises(ConfigError):
        load(None, {"HEARTWIRE_UDS_MODE": mode}, {})


def test_personal_channels_need_a_namespace_that_is_there() -> None:
    given = {"user_personal_channel_namespace": "me", "namespaces": {"chat": {}}}
    with pytest.raises(ConfigError, match=r"user_personal_channel_namespace = 'me': add \[namespaces\.me\]"):
        load(None, {}, given)
    load(None, {}, given | {"allow_unknown_namespaces": True})
    load(None, {}, given | {"namespaces": {"me": {}}})


@pytest.mark.parametrize("workers", ["0", "some", "1.5"])
def test_what_is_no_number_of_workers(workers: str) -> None:
    with pytest.raises(ConfigError, match="workers"):
        load(None, {"HEARTWIRE_WORKERS": workers}, {})
    with pytest.raises(ConfigError, match="workers"):
        load(None, {}, {"workers": workers})


def test_the_number_of_workers_is_a_number_or_auto() -> None:
    assert load(None, {"HEARTWIRE_WORKERS": "4"}, {}).workers == 4
    assert load(None, {"HEARTWIRE_WORKERS": "4"}, {"workers": "auto"}).workers == "auto"
