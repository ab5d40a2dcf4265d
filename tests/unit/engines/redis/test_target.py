"""URLs of stores in Redis."""

import sys

import pytest

from heartwire.engines.redis.pipe import Address
from heartwire.engines.redis.target import Target
from heartwire.engines.registry import open_engine
from heartwire.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "kind", "addresses", "db", "is_tls"),
    [
        ("redis://localhost", "single", [("localhost", 6379)], 0, False),
        ("valkey://localhost:1/2", "single", [("localhost", 1)], 2, False),
        ("rediss://host?db=3", "single", [("host", 6379)], 3, True),
        ("valkeys://[::1]:7/", "single", [("::1", 7)], 0, True),
        ("redis+unix:///run/redis.sock?db=1", "single", [("/run/redis.sock", 0)], 1, False),
        ("redis+sentinel://a,b:1/4?master=hw", "sentinel", [("a", 26379), ("b", 1)], 4, False),
        ("rediss+sentinel://a?master=hw", "sentinel", [("a", 26379)], 0, True),
        ("valkey+cluster://a,b:1", "cluster", [("a", 6379), ("b", 1)], 0, False),
    ],
)
def test_forms(url: str, kind: str, addresses: list[tuple[str, int]], db: int, is_tls: bool) -> None:
    target = Target.from_url(url)
    assert (target.kind, target.db, target.is_tls) == (kind, db, is_tls)
    assert target.addresses == tuple(Address(*one) for one in addresses)


def test_users_and_options() -> None:
    target = Target.from_url(
        "redis://ann:p%40s%3As@h?prefix=chat&patience_s=1.5&on_restart=trust&node_lease_s=9"
    )
    options = target.options
    assert (target.user, target.password) == ("ann", "p@s:s")
    assert (options.prefix, options.patience_s, options.on_restart) == ("chat", 1.5, "trust")
    assert (options.on_failover, options.node_lease_s, options.check_s) == ("renew", 9, 10)
    assert Target.from_url("redis://:secret@h").password == "secret"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://", "redis://user:password@host"),
        ("redis://h:0", "redis://user:password@host"),
        ("redis://h:port", "redis://user:password@host"),
        ("redis://a,b", r"redis\+sentinel:// or redis\+cluster://"),
        ("redis://h/zero", "the number of a database"),
        ("redis://h?patience=1", "unknown field `patience`.*patience_s"),
        ("redis://h?patience_s=0", "> 0"),
        ("redis://h?on_failover=maybe", "on_failover"),
        ("redis://h?prefix={x}", "prefix"),
        ("redis+unix://h/x", r"redis\+unix:///ABSOLUTE"),
        ("redis+sentinel://h", r"\?master=NAME"),
        ("redis+cluster://h/1", "database 0 only"),
        ("redis+cluster://h?on_restart=trust", "a single server"),
        ("rediss+unix:///s", "redis://user:password@host"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Target.from_url(url)


def test_a_password_is_not_said() -> None:
    with pytest.raises(ConfigError) as refused:
        Target.from_url("redis://ann:secret@h?x=1")
    assert "secret" not in str(refused.value)
    assert Target.from_url("redis://ann:secret@h").name == "redis://ann:***@h"


def test_authorities_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match="ca_file"):
        Target.from_url("rediss://h?ca_file=/nowhere").tls()


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in list(sys.modules):
        if module.startswith("heartwire.engines.redis"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "hiredis", None)
    with pytest.raises(ConfigError, match=r"pip install 'heartwire\[redis\]'"):
        open_engine("redis://h")


@pytest.mark.parametrize(
    "scheme", ["redis", "rediss", "valkey", "valkeys", "redis+cluster", "valkeys+cluster"]
)
def test_schemes_are_registered(scheme: str) -> None:
    assert type(open_engine(f"{scheme}://h")).__name__ == "RedisEngine"
