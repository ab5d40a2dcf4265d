"""Names that requests may call a server by, and origins that browsers name."""

import pytest

from heartwire import Hub
from heartwire.hub.origins import allows_host, expected_hosts, same_origin
from tests.unit.refusals import refusal

NAMED = expected_hosts(("app.example", "other.example:8443"), ("https://page.example",))


@pytest.mark.parametrize(
    "origin", ["http://[", "http://[::1", "http://a]", "http://[v1.x]:y", "http://\u2100"]
)
def test_an_origin_that_is_no_url_is_a_foreign_one(origin: str) -> None:
    """It was a fault of the server: 500 over HTTP, and the death of a native WebSocket."""
    assert not same_origin(origin, "localhost", ())


@pytest.mark.parametrize(
    "host",
    [
        "",  # not a browser
        "localhost",
        "LOCALHOST:8000",
        "127.0.0.1:8000",
        "127.1.2.3",
        "[::1]:8000",
        "chat.localhost:8000",
        "app.example",
        "App.Example:80",
        "other.example:8443",
        "page.example:9",
    ],
)
def test_own_names(host: str) -> None:
    assert NAMED is not None
    assert allows_host(host, NAMED)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "evil-localhost",
        "127.0.0.1.evil.example:8000",
        "other.example",
        "192.0.2.1",
        "0.0.0.0:8000",
        "app.example.",
        "a" * 5000,
        "x\x00y",
        "localhost@evil.example",
    ],
)
def test_names_of_others(host: str) -> None:
    assert NAMED is not None
    assert not allows_host(host, NAMED)


def test_a_star_is_any_name() -> None:
    assert expected_hosts(("*",), ()) is None
    assert expected_hosts((), ("*",)) is None


def test_a_hub_takes_any_name_until_it_lists_some() -> None:
    """It does not know the address of its server."""
    Hub().node.check_page(None, ["evil.example"], "1.1")
    listing = Hub(allowed_hosts=["app.example"]).node
    listing.check_page(None, ["app.example:8000"], "1.1")
    name, message = refusal(lambda: listing.check_page("http://evil.example", ["evil.example"], "1.1"))
    assert (name, message) == (
        "host_refused",
        "host 'evil.example' is not this server's: add it to allowed_hosts",
    )
