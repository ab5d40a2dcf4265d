"""Log lines hold no secrets, and nobody but the server writes them."""

import json
import logging
from logging.config import dictConfig

import pytest

from heartwire.server.logs import JsonFormatter, SafeRecords, TextFormatter, log_config

ACCESS = '%s - "%s %s HTTP/%s" %d'


def line(name: str, message: str, *args: object, json_: bool = False) -> str:
    record = logging.LogRecord(name, logging.INFO, "", 0, message, args, None)
    assert SafeRecords().filter(record)
    return (JsonFormatter() if json_ else TextFormatter()).format(record)


def access(target: str, client: str = "192.0.2.1:5000", *, json_: bool = False) -> str:
    return line("uvicorn.access", ACCESS, client, "GET", target, "1.1", 200, json_=json_)


@pytest.mark.parametrize("json_", [False, True], ids=["text", "json"])
@pytest.mark.parametrize(
    "query",
    [
        "token=SECRET",
        "%74oken=SECRET",
        "%74%6F%6b%65%6e=SECRET",
        "since=a.1&access%5Ftoken=SECRET&wait=1",
        "cf_connect=SECRET",
        'token=SEC"SECRET',
        "token=a?SECRET",
        "next=/b?token=SECRET",
        "token=x&token=SECRET",
    ],
)
def test_tokens_are_taken_out_however_their_names_are_written(query: str, json_: bool) -> None:
    """A name with a percent sign in it kept its secret in the log."""
    told = access(f"/channels/a?{query}", json_=json_)
    assert "SECRET" not in told
    assert "=..." in told


def test_other_parameters_stay() -> None:
    assert "/channels/a?since=x.1&tokens=5&wait=1 HTTP/1.1" in access("/channels/a?since=x.1&tokens=5&wait=1")


@pytest.mark.parametrize("client", ["192.0.2.1:5000", "[2001:db8::1]:0", "fe80::1%eth0:5", ""])
def test_addresses_are_written_as_they_are(client: str) -> None:
    assert f'{client} - "GET /a HTTP/1.1" 200' in access("/a", client)


FORGED = '192.0.2.9:1 - "GET /admin HTTP/1.1" 200\n12:00:00 INFO    x\x1b[2K:0'


def test_an_address_that_is_none_cannot_pass_for_a_line_of_ours() -> None:
    """X-Forwarded-For was written as it came."""
    told = access("/a", FORGED)
    assert "\n" not in told
    assert "\x1b" not in told
    assert told.endswith(
        r'"192.0.2.9:1 - \"GET /admin HTTP/1.1\" 200\n12:00:00 INFO    x\u001b[2K:0" - "GET /a HTTP/1.1" 200'
    )
    inside = json.loads(access("/a", FORGED, json_=True))
    assert "\n" not in inside["message"]


def test_quotes_and_control_characters_of_a_path() -> None:
    assert access('/a"b').endswith('"GET /a%22b HTTP/1.1" 200')
    assert line("heartwire", "%s failed", "/a\r\nb").endswith(r"/a\r\nb failed")
    assert line("heartwire", "%s", ValueError("x\ny")).endswith(r"x\ny")
    assert line("heartwire", 'kept as "it" is %%').endswith('kept as "it" is %%')


def test_every_logger_of_the_server_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    """WebSockets of the ASGI door are in uvicorn's other log."""
    config = log_config("text", "debug")
    assert config["handlers"]["default"]["filters"] == ["safe"]
    names = [*config["loggers"]]
    try:
        dictConfig(config)
        for name in names:
            logging.getLogger(name).info('"WebSocket %s"', "/a?%74oken=SECRET")
        told = capsys.readouterr().err
    finally:
        for name in names:
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True
            logging.getLogger(name).setLevel(logging.NOTSET)
    assert told.count("%74oken=...") == len(names)
    assert "SECRET" not in told
