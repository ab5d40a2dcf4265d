"""The request that a session began with: what is kept of it, and how handlers know it.

In: requests and handshakes. Out: an ASGI scope, or a WSGI environment with that in it, for those who ask.
"""

from collections.abc import Iterable
from typing import Any

from starlette.types import Scope

from heartwire.dialects.socketio.session import ClientSession
from heartwire.server.addresses import Handshake

__all__ = ["KeptRequest", "environ_of", "is_python"]

Headers = Iterable[tuple[bytes, bytes]]


def is_python(agent: str) -> bool:
    """Whether a ``User-Agent`` is that of python-socketio's client, as its HTTP libraries send it."""
    agent = agent.lower()
    return "aiohttp" in agent or "python-requests" in agent or "websocket-client" in agent


class KeptRequest:
    """See the module. Clients of one kind share their headers, where the native door had them: so an idle
    connection costs little. Calling it makes the scope."""

    __slots__ = ("client", "headers", "path", "query_string", "type")

    def __init__(
        self, type: str, path: str, query_string: bytes, headers: Headers, client: tuple[str, int] | None
    ) -> None:
        self.type = type
        self.path = path
        self.query_string = query_string
        self.headers = headers
        self.client = client

    @classmethod
    def of_scope(cls, scope: Scope) -> "KeptRequest":
        """What is kept of a request over ASGI."""
        client = scope.get("client")
        return cls(scope["type"], scope["path"], scope["query_string"], scope["headers"], client)

    @classmethod
    def of_handshake(cls, handshake: Handshake, path: str) -> "KeptRequest":
        """What is kept of a WebSocket's."""
        return cls("websocket", path, handshake.query_string, handshake.headers, handshake.client)

    def __call__(self) -> Scope:
        is_socket = self.type == "websocket"
        return {
            "type": self.type,
            "http_version": "1.1",
            "method": "GET",
            "scheme": "ws" if is_socket else "http",
            "path": self.path,
            "root_path": "",
            "query_string": self.query_string,
            "headers": list(self.headers),
            "client": self.client,
            "server": None,
        }


def environ_of(client: ClientSession) -> dict[str, Any]:
    """Make the environment of the request that a client's session began with."""
    scope = client.connection.scope()
    peer = scope.get("client") or ("", 0)
    query = scope["query_string"].decode("latin-1")
    path = scope["path"]
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "RAW_URI": f"{path}?{query}" if query else path,
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": peer[0] or "127.0.0.1",
        "REMOTE_PORT": str(peer[1] or 0),
        "SERVER_NAME": "asgi",
        "SERVER_PORT": "0",
        "asgi.scope": scope,
    }
    for name, value in scope["headers"]:
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    environ["wsgi.url_scheme"] = environ.get("HTTP_X_FORWARDED_PROTO", "http")
    return environ
