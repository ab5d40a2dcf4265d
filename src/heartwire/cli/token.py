"""`heartwire token`."""

import os
import time
from typing import Annotated, Any

import msgspec
import typer

from heartwire.errors import ConfigError
from heartwire.hub.options import duration_s
from heartwire.server.config import load

__all__ = ["token"]


def token(
    secret: Annotated[
        str | None,
        typer.Option(
            help="The secret; else `token_hmac_secret_key` of the file or the environment.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[str | None, typer.Option(help="The server's TOML file.")] = None,
    user: Annotated[
        str, typer.Option(help="Who it is for; without it: an anonymous client.", show_default=False)
    ] = "",
    channel: Annotated[
        str | None, typer.Option(help="Make a subscription token, for this channel.  *[a connection token]*")
    ] = None,
    expires: Annotated[
        str, typer.Option(help="How long it is good, such as `90s`, `1h`, `7d`; `never`.")
    ] = "1h",
    info: Annotated[
        str | None,
        typer.Option(help='JSON about them that others see in presence, such as `\'{"name":"Al"}\'`.'),
    ] = None,
    join: Annotated[
        list[str] | None,
        typer.Option(help="A channel that the server joins for them; connection tokens only. Repeat."),
    ] = None,
    algorithm: Annotated[str, typer.Option(help="`HS256`, `HS384` or `HS512`.")] = "HS256",
) -> None:
    """Make a JSON Web Token for a client and print it.

    heartwire token --secret … --user 42 --expires 1h

    heartwire token --config heartwire.toml --user 42 --channel '$news'

    The secret is better kept in HEARTWIRE_TOKEN_HMAC_SECRET_KEY or the file: others on this machine can see a
    command's flags.
    """
    settings = load(config, os.environ, {"token_hmac_secret_key": secret})
    if not settings.token_hmac_secret_key:
        raise ConfigError(
            "token_hmac_secret_key", "", "give --secret, --config FILE, or HEARTWIRE_TOKEN_HMAC_SECRET_KEY"
        )
    if channel is not None and join:
        raise ConfigError("--join", ",".join(join), "a connection token joins channels; leave --channel out")
    claims: dict[str, Any] = {"sub": user} if user else {}
    claims |= _times(expires)
    if channel is not None:
        claims["channel"] = channel
    if info is not None:
        claims["info"] = _json(info)
    if join:
        claims["channels"] = join
    if settings.token_audience:
        claims["aud"] = settings.token_audience
    if settings.token_issuer:
        claims["iss"] = settings.token_issuer
    typer.echo(_signed(claims, settings.token_hmac_secret_key, algorithm))


def _signed(claims: dict[str, Any], secret: str, algorithm: str) -> str:
    if algorithm not in ("HS256", "HS384", "HS512"):
        raise ConfigError("--algorithm", algorithm, "HS256, HS384 or HS512")
    from heartwire.hub.tokens import make_token  # the other commands start without it

    return make_token(claims, secret, algorithm)


def _times(expires: str) -> dict[str, int]:
    now = int(time.time())
    if expires == "never":
        return {"iat": now}
    try:
        return {"exp": now + int(duration_s(expires)), "iat": now}
    except ValueError as error:
        raise ConfigError("--expires", expires, f"{error}, or `never`") from None


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError("--info", text, f"is not JSON: {error}") from None
