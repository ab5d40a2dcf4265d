"""Sockets for HTTP, as all requests of one client want them."""

import socket
from collections.abc import Mapping
from typing import Any

import aiohttp

from heartwire.client.redirects import stop_at_redirect

__all__ = ["Sessions"]


class Sessions:
    """Makes pools of sockets, which share cookies.

    After ``dead_after_s`` the kernel gives up a connection whose peer acknowledges nothing; else that takes
    15 minutes. ``headers`` and ``ssl``: see `heartwire.connect`.
    """

    def __init__(self, *, headers: Mapping[str, str] | None, ssl: Any, dead_after_s: float) -> None:
        self._headers = headers
        self._ssl = ssl
        self._dead_after_ms = max(1, int(dead_after_s * 1000))
        self._cookies: aiohttp.CookieJar | None = None
        self._tracing = aiohttp.TraceConfig()
        self._tracing.on_request_redirect.append(stop_at_redirect)

    def session(self) -> aiohttp.ClientSession:
        """Return a pool for one use, which ends with it. It has no timeouts."""
        if self._cookies is None:  # it wants a running loop
            # A load balancer's, across connections: also on an IP address, and sent back as they came.
            self._cookies = aiohttp.CookieJar(unsafe=True, quote_cookie=False)
        return aiohttp.ClientSession(
            headers=self._headers,
            cookie_jar=self._cookies,
            trace_configs=[self._tracing],
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            connector=aiohttp.TCPConnector(ssl=self._ssl, socket_factory=self._socket),
        )

    def _socket(self, address: Any) -> socket.socket:
        family, kind, protocol, *_ = address
        sock = socket.socket(family, kind, protocol)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._dead_after_ms)
        return sock
