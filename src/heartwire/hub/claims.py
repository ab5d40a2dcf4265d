"""The claims of a token whose signature is valid. Pure: no keys, no clock of its own."""

import base64
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta
from msgspec.structs import asdict

from heartwire.channels import to_channel
from heartwire.errors import Refused
from heartwire.types import Channel, Override, ServerSubscription

__all__ = [
    "ConnectionClaims",
    "Expired",
    "Invalid",
    "Mismatch",
    "Overrides",
    "SubscriptionClaims",
    "read_connection",
    "read_subscription",
]

_END_OF_TIME: Final = 253_402_300_800
"""The year 10000: a later time is a mistake, such as milliseconds for seconds."""


class Invalid(NamedTuple):
    """The token is not ours, or malformed. ``reason`` is for the log and for the maker of the tokens."""

    reason: str


class Expired(NamedTuple):
    """The token was valid until ``expired_at`` (seconds since 1970)."""

    expired_at: float


class Mismatch(NamedTuple):
    """A valid subscription token of another user or channel."""

    reason: str


class ConnectionClaims(msgspec.Struct, frozen=True):
    """The user of a connection. ``expires_at``: seconds since 1970, ``None``: never; ``info`` is JSON."""

    user: str
    expires_at: float | None = None
    info: bytes | None = None
    subs: tuple[ServerSubscription, ...] = ()


class SubscriptionClaims(msgspec.Struct, frozen=True):
    """A permission to subscribe. ``expires_at`` is the subscription's end, which is not always the
    token's."""

    user: str
    channel: Channel
    expires_at: float | None = None
    info: bytes | None = None
    override: Override | None = None


Time = Annotated[float, Meta(ge=0, lt=_END_OF_TIME)]


_ABSENT: Final = msgspec.Raw(b"null")


class _Json(msgspec.Struct, frozen=True):
    info: msgspec.Raw = _ABSENT
    b64info: str | None = None

    @property
    def info_json(self) -> bytes | None:
        return _json(self.info, self.b64info)


class _Flag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    value: bool = False


class Overrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`Override` in Centrifugo's form. An option that we do not have might restrict: it is an error."""

    presence: _Flag | None = None
    join_leave: _Flag | None = None
    force_push_join_leave: _Flag | None = None
    force_positioning: _Flag | None = None
    force_recovery: _Flag | None = None

    @property
    def override(self) -> Override | None:
        """The same without the form; ``None`` where no option is given."""
        given = {name: flag.value for name, flag in asdict(self).items() if flag is not None}
        return Override(**given) if given else None


class _Sub(_Json, frozen=True):
    data: msgspec.Raw = _ABSENT
    b64data: str | None = None
    override: Overrides = Overrides()
    expire_at: Time | None = None


class _Claims(_Json, frozen=True):
    """Every claim we know; each must have its type, whether it is used or not. Unknown claims are ignored."""

    sub: str = ""
    exp: Time | None = None
    nbf: Time | None = None
    iat: Time | None = None
    aud: str | list[str] = ""
    iss: str = ""
    channel: str | None = None
    channels: list[str] = []
    subs: dict[str, _Sub] = {}
    client: str | None = None
    override: Overrides = Overrides()
    expire_at: Time | None = None


_decoder: Final = msgspec.json.Decoder(_Claims)


def read_connection(
    payload: bytes, now: float, *, audience: str, issuer: str
) -> ConnectionClaims | Expired | Invalid:
    """Read the claims of a connection token; ``now`` is in seconds since 1970."""
    claims = _read(payload, now, audience, issuer)
    if not isinstance(claims, _Claims):
        return claims
    if claims.channel is not None:
        return Invalid("it has a claim `channel`: this is a subscription token")
    try:
        subs = {channel: ServerSubscription(channel) for channel in map(to_channel, claims.channels)}
        for name, sub in claims.subs.items():
            channel = to_channel(name)
            subs[channel] = ServerSubscription(
                channel,
                sub.info_json,
                _json(sub.data, sub.b64data),
                ttl_s=max(0, sub.expire_at - now) if sub.expire_at else None,
                override=sub.override.override,
            )
        return ConnectionClaims(claims.sub, _end(claims), claims.info_json, tuple(subs.values()))
    except (ValueError, Refused) as error:
        return Invalid(str(error))


def read_subscription(
    payload: bytes,
    now: float,
    *,
    audience: str,
    issuer: str,
    user: str,
    channel: str | None,
    client: str = "",
) -> SubscriptionClaims | Expired | Mismatch | Invalid:
    """Read the claims of a subscription token that ``user`` showed for ``channel`` (``None``: for the one it
    names), on the connection ``client``."""
    claims = _read(payload, now, audience, issuer)
    if not isinstance(claims, _Claims):
        return claims
    try:
        named = to_channel(claims.channel or "")
        info = claims.info_json
    except (ValueError, Refused) as error:
        return Invalid(f"claim `channel`: {error}" if isinstance(error, Refused) else str(error))
    if claims.sub != user:
        return Mismatch(f"it is of user {claims.sub[:64]!r}, not of {user[:64]!r}")
    if channel is not None and named != channel:
        return Mismatch(f"it is for channel {named!r}, not for {channel!r}")
    if claims.client is not None and claims.client != client:
        return Mismatch(f"it is of client {claims.client[:64]!r}, not of {client!r}")
    return SubscriptionClaims(claims.sub, named, _end(claims), info, claims.override.override)


def _end(claims: _Claims) -> float | None:
    """When what the token allows ends: not always with the token."""
    return claims.exp if claims.expire_at is None else claims.expire_at or None


def _read(payload: bytes, now: float, audience: str, issuer: str) -> _Claims | Expired | Invalid:
    try:
        claims = _decoder.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        return Invalid(f"its claims are malformed: {error}")
    if (
        audience
        and audience != claims.aud
        and audience not in (claims.aud if isinstance(claims.aud, list) else ())
    ):
        return Invalid(f"claim `aud` does not hold {audience!r} (token_audience)")
    if issuer and issuer != claims.iss:
        return Invalid(f"claim `iss` is not {issuer!r} (token_issuer)")
    if claims.nbf is not None and now < claims.nbf:
        return Invalid(f"it is not valid before {claims.nbf:.0f} (claim `nbf`); are the clocks right?")
    if claims.exp is not None and now >= claims.exp:
        return Expired(claims.exp)
    return claims


def _json(plain: msgspec.Raw, encoded: str | None) -> bytes | None:
    """JSON given as it is, or as base64. Raises ``ValueError``."""
    if encoded is None:
        return None if bytes(plain) == b"null" else bytes(plain)
    try:
        decoded = base64.b64decode(encoded, validate=True)
        return bytes(msgspec.json.decode(decoded, type=msgspec.Raw))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a claim in base64 does not hold JSON: {error}") from None
