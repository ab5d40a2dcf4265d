"""Arguments that can never work are refused at once, by name, and without the secrets in them."""

import ssl
from typing import Any

import pytest

import heartwire
from heartwire import ConfigError

URL = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"token": "secret\n"}, "token"),
        ({"token": " secret"}, "token"),
        ({"token": "sec\0ret"}, "token"),
        ({"token": "secret\ud800"}, "token"),
        ({"token": b"secret"}, "token"),
        ({"token": None}, "token"),
        ({"get_token": "secret"}, "get_token"),
        ({"headers": ["X-Key", "secret"]}, "headers"),
        ({"headers": {"X-Key": b"secret"}}, "headers['X-Key']"),
        ({"headers": {"X-Key": 5}}, "headers['X-Key']"),
        ({"headers": {"X-Key": None}}, "headers['X-Key']"),
        ({"headers": {"X-Key": "secret\r\nX-Other: 1"}}, "headers['X-Key']"),
        ({"headers": {"X-Key": "secret\n"}}, "headers['X-Key']"),
        ({"headers": {"X-Key": "secret\0"}}, "headers['X-Key']"),
        ({"headers": {"X-Key": "secret\ud800"}}, "headers['X-Key']"),
        ({"headers": {"X Key": "secret"}}, "headers"),
        ({"headers": {"": "secret"}}, "headers"),
        ({"headers": {5: "secret"}}, "headers"),
        ({"ssl": "no"}, "ssl"),
        ({"ssl": 1}, "ssl"),
    ],
    ids=lambda value: str(value)[:30].encode("ascii", "replace").decode(),
)
@pytest.mark.parametrize("connect", [heartwire.connect, heartwire.connect_sync])
def test_arguments_that_cannot_be(connect: Any, arguments: Any, named: str) -> None:
    # They broke each new connection, which was tried again for ever.
    with pytest.raises(ConfigError) as raised:
        connect(URL, **arguments)
    assert raised.value.setting == named
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"token": "a.b-c_d"},
        {"get_token": lambda: "x"},
        {"headers": {}},
        {"headers": {"X-Key": "a value\twith é", "!": ""}},
        {"ssl": ssl.create_default_context()},
        {"ssl": False},
        {"ssl": None},
    ],
    ids=lambda value: str(value)[:30].encode("ascii", "replace").decode(),
)
def test_arguments_that_can_be(arguments: Any) -> None:
    heartwire.connect(URL, **arguments)
