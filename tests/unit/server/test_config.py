"""Settings from the environment and from files; the example file."""

from pathlib import Path

from heartwire.server.config import load
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
