"""The request of a client as handlers know it: a WSGI environment with the ASGI scope in it."""

from typing import Any

from heartwire.dialects.socketio.session import ClientSession

__all__ = ["environ_of"]


def environ_of(client: ClientSession) -> dict[str, Any]:
    """Make the environment of the request that a client's session began with."""
    scope = client.connection.scope()
    peer = scope.get("client") or ("", 0)
    server = scope.get("server") or ("", 0)
    query = scope.get("query_string", b"").decode("latin-1")
    path = scope.get("path", "")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "RAW_URI": f"{path}?{query}" if query else path,
        "SCRIPT_NAME": scope.get("root_path", ""),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "REMOTE_ADDR": peer[0] or "127.0.0.1",
        "REMOTE_PORT": str(peer[1] or 0),
        "SERVER_NAME": server[0] or "asgi",
        "SERVER_PORT": str(server[1] or 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "asgi.scope": scope,
    }
    for name, value in scope.get("headers", ()):
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ
