"""The environment's proxies, read as curl reads them."""

import pytest
from yarl import URL

from heartwire.client.proxies import proxy_for
from heartwire.errors import ConfigError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_PROXY".upper(), raising=False)


@pytest.mark.parametrize(
    ("name", "value", "url", "proxy"),
    [
        # Without a scheme it was taken for a relative address, and failed for ever.
        ("http_proxy", "proxy:3128", "http://example.com", "http://proxy:3128"),
        ("http_proxy", "ann:pw@proxy:3128", "http://example.com", "http://ann:pw@proxy:3128"),
        ("HTTPS_PROXY", "https://proxy", "https://example.com", "https://proxy"),
        ("http_proxy", "proxy:3128", "https://example.com", None),
        # It was ignored.
        ("ALL_PROXY", "proxy:3128", "https://example.com", "http://proxy:3128"),
        ("all_proxy", "http://proxy", "http://example.com", "http://proxy"),
        ("all_proxy", "http://proxy", "http://127.0.0.1", None),
        ("all_proxy", "http://proxy", "http://app.localhost", None),
    ],
)
def test_which_proxy(
    name: str, value: str, url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert proxy_for(URL(url)) == (proxy and URL(proxy))


def test_the_proxy_of_a_scheme_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://all")
    monkeypatch.setenv("http_proxy", "http://proxy")
    assert proxy_for(URL("http://example.com")) == URL("http://proxy")


@pytest.mark.parametrize(
    ("exempt", "url", "is_exempt"),
    [
        ("example.com", "http://example.com:8000", True),
        ("example.com", "http://chat.example.com:8000", True),
        (".example.com", "http://chat.example.com:8000", True),
        ("example.com", "http://notexample.com:8000", False),
        ("example.com:8000", "http://example.com:8000", True),  # was ignored
        ("example.com:80", "http://example.com", True),
        ("example.com:8001", "http://example.com:8000", False),
        ("other, 10.0.0.0/8", "http://10.1.2.3:8000", True),
        ("10.0.0.0/8", "http://11.1.2.3:8000", False),
        ("2001:db8::1", "http://[2001:db8::1]:8000", True),
        ("[2001:db8::1]", "http://[2001:db8::1]:8000", True),
        ("*", "http://example.com", True),
    ],
)
def test_which_hosts_need_none(
    exempt: str, url: str, is_exempt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert (proxy_for(URL(url)) is None) is is_exempt


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("socks5://ann:secret@proxy:1080", "all_proxy = 'socks5://proxy'"),  # was spoken to as HTTP
        ("ftp://proxy", "all_proxy = 'ftp://proxy'"),
        ("http://ann:secret@:3128", "all_proxy"),
        ("http://ann:secret@proxy:port", "all_proxy"),
    ],
)
def test_a_proxy_that_cannot_be_is_refused_by_name(
    value: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", value)
    with pytest.raises(ConfigError) as raised:
        proxy_for(URL("http://example.com"))
    assert str(raised.value).startswith(named)
    assert "secret" not in str(raised.value)
