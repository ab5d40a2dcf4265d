"""Pages that may use a hub: the names they may call it by, and their origins."""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from heartwire.errors import Refused

__all__ = [
    "allows_host",
    "check_host",
    "check_origin",
    "expected_hosts",
    "is_loopback",
    "same_origin",
    "the_host",
]

_LOOPBACK: Final = re.compile(r"^(127\.0\.0\.1|\[::1\])(?=:|$)")
"""Other names of this machine: a page that was opened by one of them may connect by another."""

_PORT: Final = re.compile(r":\d*$")
_MAX_HOST_CHARS: Final = 300
"""A name has 253 at most. Longer ones are not remembered."""


def check_origin(origin: str | None, host: str, allowed: tuple[str, ...]) -> None:
    """Raises `Refused` (``origin_refused``) for a page of another origin. Only browsers send one."""
    if origin is not None and not same_origin(origin, host, allowed):
        raise Refused(
            "origin_refused", f"origin {origin[:200]!r} is not this server's: add it to allowed_origins"
        )


def same_origin(origin: str, host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a browser page of ``origin`` may use the server at ``host`` (RFC 6454 4).

    The scheme is not compared: behind a proxy that ends TLS the page says https and we see http.
    """
    if origin in allowed or "*" in allowed:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:  # `http://[`: no page has it
        return False
    port = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    ours, theirs = (
        _LOOPBACK.sub("localhost", name.lower().removesuffix(port)) for name in (host, parts.netloc)
    )
    return bool(theirs) and ours == theirs


def expected_hosts(hosts: tuple[str, ...], origins: tuple[str, ...]) -> frozenset[str] | None:
    """The names that ``allowed_hosts`` and ``allowed_origins`` give, for `check_host`; None: any name."""
    if "*" in hosts or "*" in origins:
        return None
    return frozenset(name.lower() for name in (*hosts, *(origin.partition("//")[2] for origin in origins)))


def the_host(hosts: Sequence[str], http_version: str) -> str:
    """Return a request's ``Host``, "" where HTTP/1.0 and HTTP/2 may be without. Raises `Refused`
    (``bad_request``; RFC 9112 3.2)."""
    if len(hosts) > 1 or (not hosts and http_version == "1.1"):
        raise Refused("bad_request", f"{len(hosts)} Host headers: a request of HTTP/1.1 has one")
    return hosts[0] if hosts else ""


def check_host(host: str, expected: frozenset[str] | None) -> None:
    """Raises `Refused` (``host_refused``) for a request that calls this server by a name that is not its own.

    A page whose name was bound anew, to an address of this machine (DNS rebinding), is of our origin to its
    browser and to `same_origin`; only the name gives it away.
    """
    if expected is not None and not allows_host(host, expected):
        raise Refused("host_refused", f"host {host[:200]!r} is not this server's: add it to allowed_hosts")


def allows_host(host: str, expected: frozenset[str]) -> bool:
    """Whether ``Host`` is one of the expected names, or one that always means the client's own machine.

    Without any it does not come from a browser.
    """
    return not host or (len(host) <= _MAX_HOST_CHARS and _is_known(host, expected))


@lru_cache(256)
def _is_known(host: str, expected: frozenset[str]) -> bool:
    host = host.lower()
    name = _PORT.sub("", host)
    return host in expected or name in expected or name.endswith(".localhost") or is_loopback(name)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host == "localhost"
