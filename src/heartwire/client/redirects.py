"""Where a request goes on whose address has moved: to the same host, never from TLS to plain."""

from typing import Any

import aiohttp
from yarl import URL

__all__ = ["Moved", "moved_base", "stop_at_redirect"]


class Moved(Exception):
    """The server says that the address has moved."""


async def stop_at_redirect(
    session: aiohttp.ClientSession, context: Any, redirect: aiohttp.TraceRequestRedirectParams
) -> None:
    """Raise `Moved`. Followed by aiohttp, a POST would become a GET, and a token go to whoever is named."""
    where = redirect.response.headers.get("Location")
    if where is not None:
        redirect.response.close()
        raise Moved(where)


def moved_base(base: URL, path: str, where: str) -> URL:
    """Return the base of an address that has moved on the same host, not from TLS to plain. Else `Moved`."""
    try:
        new = base.joinpath(path).join(URL(where))
        new = new.with_scheme(new.scheme.replace("ws", "http"))
    except ValueError:
        raise Moved(where) from None
    is_safe = new.scheme == "https" or new.scheme == base.scheme == "http"
    if new.host != base.host or not is_safe or not new.path.endswith(f"/{path}"):
        raise Moved(where)
    return new.with_path(new.path.removesuffix(path))
