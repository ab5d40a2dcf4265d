"""Tokens: whose signature is good, and what a good token says. Expected outcomes are values."""

import base64
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from heartwire import Channel, ConfigError
from heartwire.hub.claims import ConnectionClaims, Expired, Invalid, Mismatch, SubscriptionClaims
from heartwire.hub.options import HubOptions
from heartwire.hub.tokens import Tokens, make_token
from heartwire.types import Override, ServerSubscription

NEWS = Channel("news")
NOW = 1_700_000_000.0
SECRET = "a secret that is long enough for HS256"
HMAC = Tokens(HubOptions(token_hmac_secret_key=SECRET))

RSA = rsa.generate_private_key(65537, 2048)
EC = {
    name: ec.generate_private_key(curve)
    for name, curve in (("ES256", ec.SECP256R1()), ("ES384", ec.SECP384R1()))
}


def pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def made(
    *, secret: Any = SECRET, algorithm: str = "HS256", header: dict[str, Any] | None = None, **claims: Any
) -> str:
    return jwt.encode(claims, secret, algorithm, header)


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: str = "") -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)
    ]
    return ".".join([*parts, signature])


def oct_jwk(secret: str, **more: str) -> dict[str, str]:
    return {"kty": "oct", "k": base64.urlsafe_b64encode(secret.encode()).rstrip(b"=").decode(), **more}


# -- connection tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, ConnectionClaims("")),
        ({"sub": "42"}, ConnectionClaims("42")),
        ({"sub": "42", "exp": NOW + 1}, ConnectionClaims("42", NOW + 1)),
        ({"sub": "42", "exp": int(NOW) + 1, "iat": NOW + 9, "nbf": NOW}, ConnectionClaims("42", NOW + 1)),
        ({"sub": "42", "info": {"name": "Al"}}, ConnectionClaims("42", None, b'{"name":"Al"}')),
        ({"sub": "42", "info": None}, ConnectionClaims("42")),
        ({"b64info": base64.b64encode(b'{"a": 1}').decode()}, ConnectionClaims("", None, b'{"a": 1}')),
        (
            {"channels": ["news", "chat:1"]},
            ConnectionClaims("", subs=(ServerSubscription("news"), ServerSubscription("chat:1"))),
        ),
        (
            {"subs": {"news": {"info": 1, "data": {"b": 2}}}},
            ConnectionClaims("", subs=(ServerSubscription("news", b"1", b'{"b":2}'),)),
        ),
        ({"unknown": {"claim": []}, "meta": {}}, ConnectionClaims("")),
        # What restricts was ignored: a nearer end, options of a subscription.
        ({"exp": NOW + 9, "expire_at": NOW + 5}, ConnectionClaims("", NOW + 5)),
        ({"exp": NOW + 9, "expire_at": 0}, ConnectionClaims("")),
        (
            {"subs": {"news": {"override": {"presence": {"value": False}}, "expire_at": NOW + 5}}},
            ConnectionClaims(
                "", subs=(ServerSubscription("news", ttl_s=5, override=Override(presence=False)),)
            ),
        ),
    ],
)
def test_claims_of_a_connection_token(claims: dict[str, Any], expected: ConnectionClaims) -> None:
    assert HMAC.connection(make_token(claims, SECRET), NOW) == expected


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": NOW}, Expired(NOW)),
        ({"exp": NOW - 1}, Expired(NOW - 1)),
        ({"exp": 0}, Expired(0)),
        ({"nbf": NOW + 1}, "not valid before"),
        ({"exp": "soon"}, "Expected `float | null`"),
        ({"exp": NOW * 1000}, "253402300800"),
        ({"exp": -1}, ">= 0"),
        ({"exp": True}, "exp"),
        ({"sub": 42}, "Expected `str`, got `int` - at `$.sub`"),
        ({"sub": None}, "$.sub"),
        ({"channels": "news"}, "$.channels"),
        ({"channels": [1]}, "$.channels"),
        ({"subs": {"news": {"override": {"read_only": {"value": True}}}}}, "read_only"),
        ({"channels": ["a\nb"]}, "no control characters"),
        ({"channels": [""]}, "1 to 255 bytes"),
        ({"subs": []}, "$.subs"),
        ({"subs": {"\n": {}}}, "control characters"),
        ({"b64info": "%"}, "base64"),
        ({"b64info": "\u00e9"}, "base64"),
        ({"b64info": base64.b64encode(b"{").decode()}, "base64"),
        ({"b64info": base64.b64encode(b"[" * 5000).decode()}, "base64"),
        ({"channel": "news"}, "subscription token"),
    ],
)
def test_connection_tokens_that_are_refused(claims: dict[str, Any], expected: Expired | str) -> None:
    outcome = HMAC.connection(make_token(claims, SECRET), NOW)
    if isinstance(expected, str):
        assert isinstance(outcome, Invalid)
        assert expected in outcome.reason
    else:
        assert outcome == expected


def test_audience_and_issuer_are_checked_where_configured() -> None:
    tokens = Tokens(HubOptions(token_hmac_secret_key=SECRET, token_audience="chat", token_issuer="us"))
    for claims in ({"aud": "chat", "iss": "us"}, {"aud": ["shop", "chat"], "iss": "us"}):
        assert isinstance(tokens.connection(make_token(claims, SECRET), NOW), ConnectionClaims)
    for wrong in (
        {},
        {"aud": "chat"},
        {"iss": "us"},
        {"aud": "chats", "iss": "us"},
        {"aud": ["hat"], "iss": "us"},
        {"aud": 1},
    ):
        assert isinstance(tokens.connection(make_token(wrong, SECRET), NOW), Invalid)


# -- subscription tokens -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, SubscriptionClaims("42", NEWS)),
        ({"exp": NOW + 5}, SubscriptionClaims("42", NEWS, NOW + 5)),
        ({"exp": NOW + 5, "expire_at": NOW + 99}, SubscriptionClaims("42", NEWS, NOW + 99)),
        ({"exp": NOW + 5, "expire_at": 0}, SubscriptionClaims("42", NEWS, None)),
        ({"info": [1]}, SubscriptionClaims("42", NEWS, None, b"[1]")),
        ({"exp": NOW}, Expired(NOW)),
        ({"exp": NOW, "sub": "43"}, Expired(NOW)),
        ({"sub": "43"}, Mismatch("it is of user '43', not of '42'")),
        ({"sub": ""}, Mismatch("it is of user '', not of '42'")),
        ({"client": "other"}, Mismatch("it is of client 'other', not of 'mine'")),
        ({"client": "mine"}, SubscriptionClaims("42", NEWS)),
        (
            {"override": {"force_recovery": {"value": False}}},
            SubscriptionClaims("42", NEWS, override=Override(force_recovery=False)),
        ),
        ({"override": {"read_only": {"value": True}}}, Invalid),
        ({"channel": "olds"}, Mismatch("it is for channel 'olds', not for 'news'")),
        ({"channel": ""}, Invalid),
        ({"channel": None}, Invalid),
        ({"channel": "a\nb"}, Invalid),
        ({"channel": 1}, Invalid),
        ({"b64info": "="}, Invalid),
    ],
)
def test_claims_of_a_subscription_token(claims: dict[str, Any], expected: object) -> None:
    token = make_token({"sub": "42", "channel": "news"} | claims, SECRET)
    outcome = HMAC.subscription(token, NOW, user="42", channel="news", client="mine")
    assert outcome == expected or (expected is Invalid and isinstance(outcome, Invalid))


def test_a_subscription_token_can_name_the_channel_that_the_client_left_out() -> None:
    token = make_token({"channel": "news"}, SECRET)
    assert HMAC.subscription(token, NOW, user="", channel=None) == SubscriptionClaims("", NEWS)


def test_a_connection_token_is_not_a_subscription_token() -> None:
    assert isinstance(
        HMAC.subscription(make_token({"sub": "42"}, SECRET), NOW, user="42", channel="news"), Invalid
    )


# -- signatures ----------------------------------------------------------------------------------------------

GOOD = make_token({"sub": "42"}, SECRET)
HEADER, CLAIMS, SIGNATURE = GOOD.split(".")


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("abc", id="no dots"),
        pytest.param("..", id="dots"),
        pytest.param("a.b.c.d", id="four parts"),
        pytest.param("é.é.é", id="not ascii"),
        pytest.param("\ud800.a.b", id="not even unicode"),
        pytest.param(unsigned({"alg": "none"}, {"sub": "42"}), id="none"),
        pytest.param(unsigned({"alg": "none"}, {"sub": "42"}, SIGNATURE), id="none with a signature"),
        pytest.param(unsigned({"alg": "None"}, {"sub": "42"}), id="None"),
        pytest.param(unsigned({}, {"sub": "42"}, SIGNATURE), id="no algorithm"),
        pytest.param(unsigned({"alg": ["HS256"]}, {"sub": "42"}, SIGNATURE), id="algorithm is a list"),
        pytest.param(unsigned({"alg": "HS256", "kid": 1}, {"sub": "42"}, SIGNATURE), id="key id is a number"),
        pytest.param(unsigned({"alg": "HS256"}, {"sub": "1"}, SIGNATURE), id="another's signature"),
        pytest.param(
            unsigned({"alg": "HS256", "crit": ["exp"]}, {}, SIGNATURE), id="critical header that is unknown"
        ),
        pytest.param(f"{HEADER}.{CLAIMS[:-1]}.{SIGNATURE}", id="claims are cut"),
        pytest.param(f"{HEADER}.{CLAIMS}.{SIGNATURE[:-2]}", id="signature is cut"),
        pytest.param(f"{HEADER}.{CLAIMS}.", id="no signature"),
        pytest.param(f"{HEADER}.{CLAIMS}", id="two parts"),
        pytest.param(made(secret="x" * 32, sub="42"), id="another secret"),
        pytest.param(made(secret=RSA, algorithm="RS256", sub="42"), id="another kind of key"),
        pytest.param(make_token({"info": "x" * 65536}, SECRET), id="64 KiB"),
        pytest.param("x" * 65536, id="64 KiB of nothing"),
        pytest.param("[" * 20000 + ".a.b", id="deep"),
    ],
)
def test_tokens_whose_signature_is_not_good(token: str) -> None:
    assert isinstance(HMAC.connection(token, NOW), Invalid)
    assert isinstance(HMAC.subscription(token, NOW, user="", channel="a"), Invalid)


def test_a_payload_without_claims_is_refused() -> None:
    for payload in (b"", b"[]", b"1", b"\xff", b"[" * 20000):
        token = jwt.PyJWS().encode(payload, SECRET, "HS256")
        assert isinstance(HMAC.connection(token, NOW), Invalid)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_takes_every_hmac(algorithm: str) -> None:
    tokens = Tokens(HubOptions(token_hmac_secret_key=SECRET * 2))
    assert isinstance(tokens.connection(make_token({}, SECRET * 2, algorithm), NOW), ConnectionClaims)


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512"])
def test_an_rsa_key_takes_its_algorithms_and_no_other(algorithm: str) -> None:
    tokens = Tokens(HubOptions(token_rsa_public_key=pem(RSA)))
    assert isinstance(tokens.connection(made(secret=RSA, algorithm=algorithm), NOW), ConnectionClaims)
    assert isinstance(tokens.connection(made(secret=RSA, algorithm="PS256"), NOW), Invalid)


def test_a_public_key_is_never_taken_for_a_secret() -> None:
    """The classic confusion: a token signed by HMAC with the text of the public key, which everybody may
    know."""
    for options in (
        HubOptions(token_rsa_public_key=pem(RSA)),
        HubOptions(token_ecdsa_public_key=pem(EC["ES256"])),
    ):
        public = options.token_rsa_public_key or options.token_ecdsa_public_key
        for text in (public, public.strip(), public.encode().decode()):
            forged = unsigned({"alg": "HS256"}, {"sub": "42"}).rstrip(".")
            algorithm = jwt.PyJWS().get_algorithm_by_name("HS256")
            signature = (
                base64.urlsafe_b64encode(algorithm.sign(forged.encode(), text.encode())).rstrip(b"=").decode()
            )
            assert isinstance(Tokens(options).connection(f"{forged}.{signature}", NOW), Invalid)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384"])
def test_a_curve_takes_its_own_algorithm_only(algorithm: str, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(pem(EC[algorithm]))
    tokens = Tokens(HubOptions(token_ecdsa_public_key=str(file)))
    for name, key in EC.items():
        outcome = tokens.connection(made(secret=key, algorithm=name, sub="42"), NOW)
        assert isinstance(outcome, ConnectionClaims if name == algorithm else Invalid)


def test_several_keys_are_good_side_by_side() -> None:
    tokens = Tokens(HubOptions(token_hmac_secret_key=SECRET, token_rsa_public_key=pem(RSA)))
    for token in (GOOD, made(secret=RSA, algorithm="RS256", sub="42")):
        assert tokens.connection(token, NOW) == ConnectionClaims("42")


def jwk_set() -> str:
    key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key()))
    curve = json.loads(
        jwt.algorithms.ECAlgorithm.to_jwk(EC["ES256"])
    )  # a private key, by mistake: only its public half is used
    keys = [
        oct_jwk(SECRET, kid="old", alg="HS256"),
        oct_jwk("y" * 40, kid="new", use="sig"),
        oct_jwk("z" * 40, use="enc"),
        key | {"kid": "r", "alg": "RS512"},
        curve,
        {"kty": "future", "kid": "f"},
    ]
    return json.dumps({"keys": keys})


@pytest.mark.parametrize(
    ("kind", "token"),
    [
        (ConnectionClaims, lambda: made(header={"kid": "old"})),
        (ConnectionClaims, lambda: made(secret="y" * 40, header={"kid": "new"})),
        (ConnectionClaims, lambda: made(secret="y" * 40)),
        (ConnectionClaims, lambda: made(secret=RSA, algorithm="RS512", header={"kid": "r"})),
        (ConnectionClaims, lambda: made(secret=EC["ES256"], algorithm="ES256")),
        (Invalid, lambda: made(secret="y" * 40, header={"kid": "old"})),
        (Invalid, lambda: made(header={"kid": "gone"})),
        (Invalid, lambda: made(secret=SECRET * 2, algorithm="HS512", header={"kid": "old"})),
        (Invalid, lambda: made(secret="z" * 40)),
        (Invalid, lambda: made(secret=RSA, algorithm="RS256")),
    ],
)
def test_a_key_set(kind: type, token: Callable[[], str], tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(jwk_set())
    for given in (str(file), jwk_set()):
        assert isinstance(Tokens(HubOptions(token_jwks=given)).connection(token(), NOW), kind)


WEAK = rsa.generate_private_key(65537, 1024)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("token_hmac_secret_key", pem(RSA), "asymmetric key"),
        ("token_rsa_public_key", "no/such/file.pem", "No such file"),
        (
            "token_rsa_public_key",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "cannot be used",
        ),
        ("token_rsa_public_key", pem(EC["ES256"]), "it is no RSA key"),
        ("token_rsa_public_key", pem(WEAK), "1024 bits is too weak"),
        ("token_ecdsa_public_key", pem(RSA), "it is no elliptic curve key"),
        ("token_ecdsa_public_key", pem(ec.generate_private_key(ec.SECP256K1())), "P-256"),
        ("token_jwks", "{", "cannot be used"),
        ("token_jwks", "{}", "'keys'"),
        ("token_jwks", '{"keys": []}', "no key"),
        ("token_jwks", '{"keys": [1]}', "cannot be used"),
        ("token_jwks", '{"keys": [{"kty": "oct"}]}', "cannot be used"),
    ],
)
def test_keys_that_cannot_be_used_are_named_at_start(name: str, value: str, told: str) -> None:
    with pytest.raises(ConfigError) as failure:
        Tokens(msgspec.structs.replace(HubOptions(), **{name: value}))
    assert name in str(failure.value)
    assert told in str(failure.value)


def test_a_private_key_is_not_a_public_key_and_is_not_shown() -> None:
    private = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ConfigError) as failure:
        Tokens(HubOptions(token_rsa_public_key=private))
    assert private.splitlines()[1] not in str(failure.value)


def test_a_short_secret_works_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "heartwire"):
        tokens = Tokens(HubOptions(token_hmac_secret_key="secret"))
    assert "less than 32 bytes" in caplog.text
    assert tokens.connection(make_token({"sub": "1"}, "secret"), NOW) == ConnectionClaims("1")
