"""The ASGI application of a Socket.IO server, with static files and another application behind it."""

import contextlib
import inspect
import mimetypes
import os
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import FileResponse, PlainTextResponse
from starlette.types import ASGIApp as App
from starlette.types import Receive, Scope, Send

from heartwire.socketio.server import AsyncServer

__all__ = ["ASGIApp"]


class ASGIApp:
    """See the module.

    Args:
        other_asgi_app: gets all that is not Socket.IO's; its lifespan is run inside ours.
        static_files: files by path: a name; a folder; or a dictionary with ``filename`` and
            ``content_type``. ``""`` names the file of a folder (``index.html``).
        socketio_path: where Socket.IO is spoken, also below the path that this is mounted at; ``None``: at
            any path.
        on_startup, on_shutdown: functions, or coroutine functions, that are called at start and end.

    The hub starts and stops with the lifespan; where there is none, it starts with the first request.
    """

    def __init__(
        self,
        socketio_server: AsyncServer,
        other_asgi_app: App | None = None,
        static_files: Mapping[str, Any] | None = None,
        socketio_path: str | None = "socket.io",
        on_startup: Callable[[], Any] | None = None,
        on_shutdown: Callable[[], Any] | None = None,
    ) -> None:
        self.engineio_server = socketio_server
        self.hub = socketio_server.hub
        self.other_asgi_app = other_asgi_app
        self.static_files = dict(static_files or {})
        self.on_startup, self.on_shutdown = on_startup, on_shutdown
        self._hub_app = self.hub.asgi()
        self._address = self.hub.options.socketio_path + "/"
        self._prefix = None if socketio_path is None else f"/{socketio_path.strip('/')}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif self._is_ours(scope):
            ours = {**scope, "path": self._address, "raw_path": None, "root_path": ""}
            await self._hub_app(ours, receive, send)
        elif scope["type"] == "http" and (file := self._file(scope["path"])) is not None:
            await file(scope, receive, send)
        elif self.other_asgi_app is not None:
            await self.other_asgi_app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse("Not Found", 404)(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    def _is_ours(self, scope: Scope) -> bool:
        if self._prefix is None:
            return True
        path, root = f"{scope['path'].rstrip('/')}/", scope.get("root_path", "")
        return path.startswith(self._prefix) or (
            bool(root) and path.startswith(root) and path[len(root) :].startswith(self._prefix)
        )

    # -- for uvicorn -----------------------------------------------------------------------------------------

    def http_class(self) -> type:
        """The class for uvicorn's ``http=`` setting where this is the whole application: quicker polls and
        POSTs."""
        from heartwire.server.native import http_class  # uvicorn is imported only where it is used

        return http_class(self.hub.node, polls_only=True)

    def websocket_class(self) -> type:
        """The class for uvicorn's ``ws=`` setting where this is the whole application: WebSockets of
        Socket.IO, several times as fast as over ASGI. Those of the other application go where they went
        before."""
        from heartwire.server.native import websocket_class

        prefix, _, last = (self._prefix or self._address).strip("/").rpartition("/")
        return websocket_class(self.hub.node, prefix and f"/{prefix}", only=last)

    # -- lifespan --------------------------------------------------------------------------------------------

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the hub's life around that of the other application, or of our functions."""
        is_others = self.other_asgi_app is not None and self.on_startup is None and self.on_shutdown is None
        hub = self.hub
        if not is_others or self.other_asgi_app is None:
            await self._own_lifespan(receive, send)
            return
        life = contextlib.AsyncExitStack()

        async def begin() -> Any:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await life.enter_async_context(hub.lifespan())
            return message

        async def finish(message: Any) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                await life.aclose()  # before the server is told that it may end
            await send(message)

        async with life:
            await self.other_asgi_app(scope, begin, finish)

    async def _own_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        started = False
        try:
            async with self.hub.lifespan():
                await _run(self.on_startup)
                started = True
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await _run(self.on_shutdown)
        except Exception as error:
            kind = "shutdown" if started else "startup"
            await send({"type": f"lifespan.{kind}.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})

    # -- files -----------------------------------------------------------------------------------------------

    def _file(self, path: str) -> FileResponse | None:
        """The static file of a path."""
        found = self._mapped(path)
        if found is None:
            return None
        filename, content_type = found
        if not os.path.isfile(filename):
            return None
        return FileResponse(filename, media_type=content_type or mimetypes.guess_type(filename)[0])

    def _mapped(self, path: str) -> tuple[str, str | None] | None:
        files = self.static_files
        if path in files:
            return self._entry(files[path], "")
        for at in range(len(path) - 1, -1, -1):
            if path[at] != "/":
                continue
            base, rest = path[:at], path[at:]
            entry = files.get(base, files.get(f"{base}/"))
            if entry is not None:
                return None if ".." in rest.split("/") else self._entry(entry, rest)
        return None

    def _entry(self, entry: Any, rest: str) -> tuple[str, str | None]:
        filename, content_type = (
            (entry, None) if isinstance(entry, str) else (entry["filename"], entry.get("content_type"))
        )
        filename = filename.rstrip("/") + rest if rest else filename
        if filename.endswith("/"):
            index, of_index = self._entry(self.static_files.get("", "index.html"), "")
            return filename + index, of_index
        return filename, content_type


async def _run(function: Callable[[], Any] | None) -> None:
    if function is not None:
        result = function()
        if inspect.isawaitable(result):
            await result
