"""Origins of browser pages that may use a hub."""

import re
from typing import Final
from urllib.parse import urlsplit

from heartwire.errors import Refused

__all__ = ["check_origin", "same_origin"]

_LOOPBACK: Final = re.compile(r"^(127\.0\.0\.1|\[::1\])(?=:|$)")
"""Other names of this machine: a page that was opened by one of them may connect by another."""


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
    parts = urlsplit(origin)
    port = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    ours, theirs = (
        _LOOPBACK.sub("localhost", name.lower().removesuffix(port)) for name in (host, parts.netloc)
    )
    return bool(theirs) and ours == theirs
