"""The ASGI scope of a WebSocket on a raw uvicorn transport. `NativeSocket` calls it once per handshake."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

__all__ = ["websocket_scope"]


def websocket_scope(
    transport: asyncio.Transport,
    config: uvicorn.Config,
    app_state: dict[str, Any],
    target: bytes,
    headers: list[tuple[bytes, bytes]],
) -> dict[str, Any]:
    """Return the scope of a handshake, given its target and its headers (names in lower case)."""
    raw_path, _, query = target.partition(b"?")
    return {
        "type": "websocket",
        "scheme": "wss" if is_ssl(transport) else "ws",
        "path": raw_path.decode("latin-1"),
        "raw_path": raw_path,
        "root_path": config.root_path,
        "query_string": query,
        "headers": headers,
        "client": _client(config.loaded_app, get_remote_addr(transport), headers),
        "server": get_local_addr(transport),
        "state": app_state,
    }


def _client(
    app: Any, peer: tuple[str, int] | None, headers: list[tuple[bytes, bytes]]
) -> tuple[str, int] | None:
    """The client's address: the peer's, or the one in X-Forwarded-For where uvicorn trusts the peer."""
    if peer is None or not isinstance(app, ProxyHeadersMiddleware) or peer[0] not in app.trusted_hosts:
        return peer
    forwarded = dict(headers).get(b"x-forwarded-for")
    if forwarded is None:
        return peer
    host, port = app.trusted_hosts.get_trusted_client_address(forwarded.decode("latin-1"))
    return (host, port) if host else peer
