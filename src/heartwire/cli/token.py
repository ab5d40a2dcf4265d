"""`heartwire token`."""

import os
import time
from typing import Annotated, Any

import msgspec
import typer

from heartwire.cli.shared import note, option
from heartwire.errors import ConfigError
from heartwire.hub.options import duration_s
from heartwire.server.config import load

__all__ = ["token"]


def token(
    secret: Annotated[
        str | None, option("The secret; else `token_hmac_secret_key` of the file or the environment.")
    ] = None,
    config: Annotated[str | None, option("The server's TOML file.")] = None,
    user: Annotated[str, option("The user's id; without it: an anonymous client.", show_default=False)] = "",
    channel: Annotated[
        str | None, option("Make a subscription token, for this channel.  *[a connection token]*")
    ] = None,
    expires: Annotated[str, option("Its lifetime, such as `90s`, `1h`, `7d`; `never`.")] = "1h",
    info: Annotated[
        str | None, option('JSON that others see in presence, such as `\'{"name":"Al"}\'`.')
    ] = None,
    join: Annotated[
        list[str] | None, option("A channel the server joins for them; connection tokens only. Repeat.")
    ] = None,
    algorithm: Annotated[str, option("`HS256`, `HS384` or `HS512`.")] = "HS256",
) -> None:
    """Make a JSON Web Token for a client and print it.

    heartwire token --secret … --user 42 --expires 1h

    heartwire token --config heartwire.toml --user 42 --channel '$news'

    Keep the secret in HEARTWIRE_TOKEN_HMAC_SECRET_KEY or the file rather than in a flag: others on this
    machine can see the flags of a command.
    """
    settings = load(config, os.environ, {"token_hmac_secret_key": secret}, warn=note)
    if not settings.token_hmac_secret_key:
        fix = "give --secret, --config FILE, or HEARTWIRE_TOKEN_HMAC_SECRET_KEY"
        raise ConfigError("token_hmac_secret_key", "", fix)
    if channel is not None and join:
        raise ConfigError("--join", ",".join(join), "a connection token joins channels; leave --channel out")
    claims = _times(expires)
    if channel is not None:
        claims["channel"] = channel
    if info is not None:
        claims["info"] = _json(info)
    others = {"sub": user, "channels": join, "aud": settings.token_audience, "iss": settings.token_issuer}
    claims |= {name: value for name, value in others.items() if value}
    typer.echo(_signed(claims, settings.token_hmac_secret_key, algorithm))


def _signed(claims: dict[str, Any], secret: str, algorithm: str) -> str:
    if algorithm not in ("HS256", "HS384", "HS512"):
        raise ConfigError("--algorithm", algorithm, "HS256, HS384 or HS512")
    from heartwire.hub.tokens import make_token  # the other commands start without it

    return make_token(claims, secret, algorithm)


def _times(expires: str) -> dict[str, Any]:
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
