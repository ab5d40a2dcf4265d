"""`heartwire token`."""

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from heartwire import ConfigError
from heartwire.cli.main import app
from heartwire.hub.claims import ConnectionClaims, Invalid, SubscriptionClaims
from heartwire.hub.options import HubOptions
from heartwire.hub.tokens import Tokens

SECRET = "a secret that is long enough for HS256"
TOKENS = Tokens(HubOptions(token_hmac_secret_key=SECRET))


def run(*arguments: str, environment: dict[str, str] | None = None) -> str:
    result = CliRunner().invoke(app, ["token", *arguments], env=environment)
    if isinstance(result.exception, ConfigError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_a_connection_token() -> None:
    made = run(
        "--secret",
        SECRET,
        "--user",
        "42",
        "--expires",
        "1h30m",
        "--info",
        '{"name": "Al"}',
        "--join",
        "a",
        "--join",
        "b",
    )
    claims = TOKENS.connection(made, time.time())
    assert isinstance(claims, ConnectionClaims)
    assert (claims.user, claims.info) == ("42", b'{"name":"Al"}')
    assert [sub.channel for sub in claims.subs] == ["a", "b"]
    assert claims.expires_at == pytest.approx(time.time() + 5400, abs=5)


def test_a_subscription_token_that_never_expires() -> None:
    made = run(
        "--secret", SECRET, "--user", "42", "--channel", "$news", "--expires", "never", "--algorithm", "HS384"
    )
    claims = TOKENS.subscription(made, time.time(), user="42", channel="$news")
    assert isinstance(claims, SubscriptionClaims)
    assert claims.expires_at is None


def test_the_secret_can_be_in_the_environment_or_in_the_servers_file(tmp_path: Path) -> None:
    assert isinstance(
        TOKENS.connection(run(environment={"HEARTWIRE_TOKEN_HMAC_SECRET_KEY": SECRET}), time.time()),
        ConnectionClaims,
    )
    file = tmp_path / "heartwire.toml"
    file.write_text(f'token_hmac_secret_key = "{SECRET}"\ntoken_audience = "chat"\ntoken_issuer = "us"\n')
    checked = Tokens(HubOptions(token_hmac_secret_key=SECRET, token_audience="chat", token_issuer="us"))
    assert isinstance(checked.connection(run("--config", str(file)), time.time()), ConnectionClaims)
    assert isinstance(checked.connection(run("--secret", SECRET), time.time()), Invalid)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give --secret"),
        (["--secret", SECRET, "--expires", "soon"], "not a duration"),
        (["--secret", SECRET, "--info", "{"], "is not JSON"),
        (["--secret", SECRET, "--algorithm", "none"], "HS256"),
        (["--secret", SECRET, "--channel", "a", "--join", "b"], "leave --channel out"),
    ],
)
def test_what_it_refuses(arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        run(*arguments)
