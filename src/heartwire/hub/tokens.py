"""JSON Web Tokens (RFC 7519): keys and signatures. The claims of a token are
`claims`' to read.

A key decides the algorithms it is used with; what a token's header says can only choose among them, so that a
public key is never taken for a secret, and `none` is no algorithm at all.
"""

import json
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm

from heartwire.errors import ConfigError
from heartwire.hub.claims import (
    ConnectionClaims,
    Expired,
    Invalid,
    Mismatch,
    SubscriptionClaims,
    read_connection,
    read_subscription,
)
from heartwire.hub.key_sets import KeySet
from heartwire.hub.options import HubOptions

__all__ = ["Tokens", "make_token"]

log = logging.getLogger("heartwire")

MAX_TOKEN_BYTES: Final = 32 * 1024
"""As much as the headers of a request may have; a longer token is refused unread."""

_HMAC: Final = ("HS256", "HS384", "HS512")
_RSA: Final = ("RS256", "RS384", "RS512")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_STRONG_SECRET_BYTES: Final = 32  # RFC 7518 3.2
_STRONG_RSA_BITS: Final = 2048  # RFC 7518 3.3


class _Key(NamedTuple):
    key: Any
    algorithms: tuple[str, ...]
    id: str | None = None


class _Hmac(HMACAlgorithm):
    """HMAC whose secret was checked when the hub was made, not again with each token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key.encode() if isinstance(key, str) else key

    def check_key_length(self, key: bytes) -> str | None:
        return None


def _signatures() -> jwt.PyJWS:
    known = jwt.PyJWS(algorithms=[*_RSA, *_CURVES.values()])
    for name, hash in zip(_HMAC, (_Hmac.SHA256, _Hmac.SHA384, _Hmac.SHA512), strict=True):
        known.register_algorithm(name, _Hmac(hash))
    return known


_SIGNATURES: Final = _signatures()


class Tokens:
    """The token keys of a hub. It keeps nothing of a token.

    Raises `ConfigError`: a key that cannot be used.
    """

    def __init__(self, options: HubOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._audience, self._issuer = options.token_audience, options.token_issuer
        self._keys: list[_Key] = []
        self._published: KeySet[_Key] | None = None
        for name, read in _READERS.items():
            given: str = getattr(options, name)
            if name == "token_jwks" and given.startswith(("http://", "https://")):
                self._published = KeySet(given, partial(_read_keys, name, read=read), clock)
            elif given:
                self._keys += _read_keys(name, given, read)

    def wait_for_key(self, token: str) -> Awaitable[None] | None:
        """What to wait for before a token is read, where its key may have to be fetched first."""
        if self._published is None or len(token) > MAX_TOKEN_BYTES:
            return None
        try:
            id = _SIGNATURES.get_unverified_header(token).get("kid")
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            return None
        return self._published.wait_for(id)

    def connection(self, token: str, now: float) -> ConnectionClaims | Expired | Invalid:
        """Read a connection token at ``now`` (seconds since 1970)."""
        payload = self._payload(token)
        if isinstance(payload, Invalid):
            return payload
        return read_connection(payload, now, audience=self._audience, issuer=self._issuer)

    def subscription(
        self, token: str, now: float, *, user: str, channel: str | None, client: str = ""
    ) -> SubscriptionClaims | Expired | Mismatch | Invalid:
        """Read a subscription token that ``user`` shows for ``channel`` (``None``: the one it names), on the
        connection ``client``."""
        payload = self._payload(token)
        if isinstance(payload, Invalid):
            return payload
        return read_subscription(
            payload,
            now,
            audience=self._audience,
            issuer=self._issuer,
            user=user,
            channel=channel,
            client=client,
        )

    def _payload(self, token: str) -> bytes | Invalid:
        """The claims of a token as bytes, if its signature is valid."""
        if len(token) > MAX_TOKEN_BYTES:
            return Invalid(f"it is longer than {MAX_TOKEN_BYTES} bytes")
        try:
            header = _SIGNATURES.get_unverified_header(token)
        except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
            return Invalid(f"it is not a JSON Web Token: {error}")
        algorithm, id = header.get("alg"), header.get("kid")
        for key in (*self._keys, *(self._published.keys if self._published is not None else ())):
            if algorithm in key.algorithms and (id is None or key.id is None or key.id == id):
                try:
                    payload: bytes = _SIGNATURES.decode_complete(token, key.key, [str(algorithm)])["payload"]
                    return payload
                except (jwt.InvalidTokenError, ValueError):
                    continue  # perhaps it is another key's
        return Invalid(f"no key of ours has signed it with {str(algorithm)[:16]!r}")


def make_token(claims: dict[str, Any], secret: str, algorithm: str = "HS256") -> str:
    """Sign claims with a secret."""
    header = {"typ": "JWT"}
    return _SIGNATURES.encode(json.dumps(claims, separators=(",", ":")).encode(), secret, algorithm, header)


# -- keys ----------------------------------------------------------------------------------------------------


def _read_keys(name: str, given: str, read: Callable[[str], list[_Key]]) -> list[_Key]:
    try:
        keys = read(given)
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(name, "...", f"cannot be used as a key: {error}") from None
    except OSError as error:
        raise ConfigError(name, given[:200], f"cannot be read: {error.strerror}") from None
    if not keys:
        raise ConfigError(name, "...", "holds no key that is used for signatures here (HMAC, RSA, ECDSA)")
    return keys


def _hmac_key(secret: str) -> list[_Key]:
    HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)  # refuses a public key as a secret
    if len(secret.encode()) < _STRONG_SECRET_BYTES:
        log.warning("token_hmac_secret_key has less than %d bytes: it can be guessed", _STRONG_SECRET_BYTES)
    return [_Key(secret.encode(), _HMAC)]


def _pem_key(given: str) -> list[_Key]:
    return [_asymmetric(load_pem_public_key(_inline_or_file(given, "-----BEGIN").encode()))]


def _rsa_key(given: str) -> list[_Key]:
    return _of_kind(_pem_key(given), RSAPublicKey, "RSA")


def _ecdsa_key(given: str) -> list[_Key]:
    return _of_kind(_pem_key(given), EllipticCurvePublicKey, "elliptic curve")


def _of_kind(keys: list[_Key], kind: type, what: str) -> list[_Key]:
    if not isinstance(keys[0].key, kind):
        raise ValueError(f"it is no {what} key")
    return keys


def _asymmetric(key: Any) -> _Key:
    if isinstance(key, RSAPublicKey):
        if key.key_size < _STRONG_RSA_BITS:
            raise ValueError(
                f"an RSA key of {key.key_size} bits is too weak: make one of {_STRONG_RSA_BITS} or more"
            )
        return _Key(key, _RSA)
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _Key(key, (_CURVES[key.curve.name],))
    raise ValueError("it is neither RSA nor of the curves P-256, P-384, P-521")


def _key_set(given: str) -> list[_Key]:
    keys = []
    for jwk in json.loads(_inline_or_file(given, "{"))["keys"]:
        if jwk.get("use", "sig") != "sig" or jwk.get("kty") not in ("oct", "RSA", "EC"):
            continue  # RFC 7517 5: keys that one does not understand are ignored
        made = jwt.PyJWK.from_dict(jwk).key
        key = (
            _Key(made, _HMAC)
            if isinstance(made, bytes)
            else _asymmetric(getattr(made, "public_key", lambda made=made: made)())
        )
        algorithms = tuple(name for name in key.algorithms if jwk.get("alg", name) == name)
        keys.append(_Key(key.key, algorithms, jwk.get("kid")))
    return keys


def _inline_or_file(given: str, start: str) -> str:
    return given if given.lstrip().startswith(start) else Path(given).read_text(encoding="utf-8")


_READERS: Final[dict[str, Callable[[str], list[_Key]]]] = {
    "token_hmac_secret_key": _hmac_key,
    "token_rsa_public_key": _rsa_key,
    "token_ecdsa_public_key": _ecdsa_key,
    "token_jwks": _key_set,
}
