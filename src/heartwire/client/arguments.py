"""Checks of arguments that callers give a client. Pure."""

import ipaddress
import re
import ssl
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from heartwire.errors import ConfigError
from heartwire.types import EARLIEST, NOW, Position, Start

__all__ = ["address", "check_headers", "check_ssl", "check_str", "checked_token", "checked_url", "start_of"]

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(r"[\0-\x1f\x7f\ud800-\udfff]")


def start_of(since: Start | str | None) -> Position | Literal["earliest"] | None:
    """Return where to begin, for the machine; ``None``: now. Raises ``ValueError``."""
    if since is None or since is NOW:
        return None
    if since is EARLIEST or since == "earliest":
        return "earliest"
    if isinstance(since, Position):
        return since
    if isinstance(since, str):
        return Position.parse(since)
    raise ValueError(f"since={since!r:.64}: a position, the text of one, EARLIEST, or None for from now on")


def check_str(name: str, text: str) -> str:
    """Return text that can be sent. ``TypeError``, ``ValueError``: it would break each new connection."""
    if not isinstance(text, str):
        raise TypeError(f"{name}={text!r:.64}: a str")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: {error}") from None
    return text


def checked_token(name: str, token: object) -> str:
    """Return a token. Raises `ConfigError`, without the token: no header can have it, on any connection."""
    if not isinstance(token, str):
        raise ConfigError(name, type(token), "a str; decode bytes")
    if _CONTROL.search(token) or token != token.strip():
        hint = "no control characters, and no spaces or line ends around it: strip what was read from a file"
        raise ConfigError(name, "…", hint)
    return token


def check_headers(headers: Mapping[str, str] | None) -> None:
    """Raise `ConfigError` for what cannot be sent as a header; the error names it, without the value."""
    if not isinstance(headers, Mapping | None):
        raise ConfigError("headers", type(headers), "a dict of names and values")
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ConfigError("headers", name, "letters, digits and hyphens make a name")
        if not isinstance(value, str):
            raise ConfigError(f"headers[{name!r}]", type(value), "a str")
        if _CONTROL.search(value.replace("\t", " ")):
            raise ConfigError(f"headers[{name!r}]", "…", "no line ends and no control characters")


def check_ssl(value: Any) -> None:
    """Raise `ConfigError` for what is no setting of TLS."""
    is_fingerprint = type(value).__name__ == "Fingerprint"  # aiohttp's, which only `links` imports
    if not (isinstance(value, bool | ssl.SSLContext | None) or is_fingerprint):
        raise ConfigError("ssl", value, "an ssl.SSLContext; False checks no certificate")


def address(scheme: str, host: str, port: int) -> str:
    """Return a URL."""
    try:
        host = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        pass  # a name
    return f"{scheme}://{host}:{port}"


def checked_url(url: str) -> str:
    """Return the URL of a server, with ``http`` for ``ws``. Raises `ConfigError`."""
    if url.startswith(("ws://", "wss://")):
        url = "http" + url.removeprefix("ws")
    wanted = "http://HOST:PORT or https://HOST:PORT, and the path where the hub is mounted"
    try:
        url.encode()
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and has_port
    except ValueError as error:
        raise ConfigError("url", url, f"{error}; {wanted}") from None
    if not is_whole:
        raise ConfigError("url", url, wanted)
    if parts.query or parts.fragment:
        raise ConfigError("url", url, f"no query and no fragment: {wanted}; a token goes in token=")
    if "@" in parts.netloc:
        shown = f"{parts.scheme}://…@{parts.hostname}"
        raise ConfigError("url", shown, "no password in it: send it with headers= or token=")
    return url
