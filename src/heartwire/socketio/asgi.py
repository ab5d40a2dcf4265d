"""The ASGI application of a Socket.IO server, and of another application behind it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp as App
from starlette.types import Receive, Scope, Send

if TYPE_CHECKING:
    from heartwire.socketio.server import AsyncServer

__all__ = ["ASGIApp"]


class ASGIApp:
    """See the module. Its lifespan starts and stops the hub."""

    def __init__(
        self,
        socketio_server: "AsyncServer",
        other_asgi_app: App | None = None,
        static_files: Any = None,
        socketio_path: str | None = "socket.io",
        on_startup: Callable[[], Any] | None = None,
        on_shutdown: Callable[[], Any] | None = None,
    ) -> None:
        self.socketio_server = socketio_server
        self.other_asgi_app = other_asgi_app
        self._hub_app = socketio_server.hub.asgi()
        self._canonical = socketio_server.hub.options.socketio_path + "/"
        self._prefix = None if socketio_path is None else "/" + socketio_path.strip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await self._hub_app(scope, receive, send)
        elif (
            self._prefix is None
            or scope["path"] == self._prefix
            or scope["path"].startswith(f"{self._prefix}/")
        ):
            ours = {**scope, "path": self._canonical, "raw_path": None, "root_path": ""}
            await self._hub_app(ours, receive, send)
        elif self.other_asgi_app is not None:
            await self.other_asgi_app(scope, receive, send)
