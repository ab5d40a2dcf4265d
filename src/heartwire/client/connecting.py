"""`connect`: a `Client` from the arguments of an application."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from heartwire.client.arguments import address, checked_url
from heartwire.client.client import Client
from heartwire.client.options import Options, Transport

if TYPE_CHECKING:
    from heartwire.client.driver import TokenSource

__all__ = ["connect"]


def connect(
    url: str | None = None,
    *,
    scheme: Literal["http", "https"] = "http",
    host: str = "127.0.0.1",
    port: int = 8000,
    debug_url: str | None = None,
    token: str = "",
    get_token: "TokenSource | None" = None,
    data: Any = None,
    transports: Sequence[Transport] | None = None,
    options: Options | None = None,
    headers: Mapping[str, str] | None = None,
    ssl: Any = True,
) -> Client:
    """Return a client of one server, for ``async with``.

    Args:
        url: ``http://HOST:PORT`` or ``https://…``, with the path where the hub is mounted, if any.
        scheme, host, port: instead of ``url``.
        debug_url: used instead of either; so is the environment variable ``HEARTWIRE_DEBUG_URL``.
        token: proves who we are.
        get_token: instead, a function (plain or async) that returns a token, called again before it expires.
            After ``open_timeout_cap_s`` it is cancelled, and called again after a wait; so it is where it
            raises or returns ``None``. Anything else that is not a token ends the client.
        data: for the server's ``on_connect``; any JSON.
        transports: the ladder, best first; one name fixes the transport. Overrides ``options``.
        options: everything else; see `Options`.
        headers: sent with every request.
        ssl: an ``ssl.SSLContext``; ``False`` checks no certificate.
    Raises:
        ConfigError: an argument is invalid; the error names it.
    """
    url = address(scheme, host, port) if url is None else url
    url = checked_url(debug_url or os.environ.get("HEARTWIRE_DEBUG_URL") or url)
    options = options or Options()
    if transports is not None:
        options = options._replace(transports=tuple(transports))
    return Client(url, options, token=token, get_token=get_token, data=data, headers=headers, ssl=ssl)
