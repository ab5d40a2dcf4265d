"""The handshake of a native WebSocket as ASGI has it, so that all middleware sees it.

In: a `NativeSocket` whose handshake obeys the RFC. Out: one call of the application, and its answer on the
socket. The scope is uvicorn's own, with an extension by which the hub's application takes the socket over;
then the call returns, so that an open connection costs no task.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final, Protocol
from urllib.parse import unquote

import uvicorn
from starlette.types import Message, Scope
from uvicorn.protocols.utils import ClientDisconnected, get_local_addr, is_ssl

from heartwire.codes import close_code
from heartwire.transports.websocket.handshake import Head, Refusal

__all__ = ["EXTENSION", "AnsweredSocket", "AsgiHandshake"]

log = logging.getLogger("uvicorn.error")

EXTENSION: Final = "heartwire.socket"
"""The extension of the scope that holds the `AsgiHandshake`, for the hub's application."""


class AnsweredSocket(Protocol):
    """The socket of a handshake: `NativeSocket`, which documents it."""

    transport: asyncio.Transport
    closed: bool

    @property
    def is_answered(self) -> bool: ...

    def accept(
        self, *, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None: ...

    def refuse(self, answer: Refusal) -> None: ...

    def close(self, code: int, reason: str) -> None: ...


class AsgiHandshake:
    """One handshake: the call of the application, with its ``receive`` and ``send``.

    Attributes:
        app: the whole application, in uvicorn's own middleware.
        head: the headers; the key may be missing in them.
        key: the value of Sec-WebSocket-Key.
        extensions: the value of Sec-WebSocket-Extensions in the answer.
        is_taken: the hub's application has the socket, and may accept it. No other can.
    """

    __slots__ = (
        "_app_state",
        "_body",
        "_config",
        "_gone",
        "_is_begun",
        "_scope",
        "_start",
        "app",
        "extensions",
        "head",
        "is_taken",
        "key",
        "path",
        "query_string",
        "socket",
    )

    def __init__(
        self,
        socket: AnsweredSocket,
        config: uvicorn.Config,
        app_state: dict[str, Any],
        target: bytes,
        head: Head,
        key: bytes,
    ) -> None:
        self.app = config.loaded_app
        self.key = key
        self.extensions: str | None = None
        self.is_taken = self._is_begun = False
        self.socket = socket
        self._gone: asyncio.Future[None] | None = None
        self._start: Message | None = None
        self._body = b""
        self._config = config
        self._app_state = app_state
        self._scope: Scope | None = None
        self.head = head
        path, _, self.query_string = target.partition(b"?")
        self.path = path.decode("latin-1")

    @property
    def scope(self) -> Scope:
        """As uvicorn's own WebSocket makes it, for those who ask."""
        if self._scope is None:
            config, root = self._config, self._config.root_path
            path = self.path
            self._scope = {
                "type": "websocket",
                "asgi": {"version": config.asgi_version, "spec_version": "2.4"},
                "http_version": "1.1",
                "scheme": "wss" if is_ssl(self.socket.transport) else "ws",
                "server": get_local_addr(self.socket.transport),
                "client": self.client,
                "root_path": root,
                "path": root + (unquote(path) if "%" in path else path),
                "raw_path": root.encode("ascii") + path.encode("latin-1"),
                "query_string": self.query_string,
                "headers": self.head.with_key(self.key),
                "subprotocols": self.subprotocols,
                "state": self._app_state.copy(),
                "extensions": {"websocket.http.response": {}, EXTENSION: self},
            }
        return self._scope

    @property
    def client(self) -> tuple[str, int] | None:
        """The client's network address."""
        # Not by uvicorn's function, which has the transport make a socket object that it keeps.
        peer = self.socket.transport.get_extra_info("peername")
        return (peer[0], peer[1]) if isinstance(peer, tuple) and len(peer) > 1 else None

    @property
    def subprotocols(self) -> list[str]:
        """Those that are offered."""
        return self.head.subprotocols

    @property
    def has_root(self) -> bool:
        """Whether the server says below which path it is."""
        return bool(self._config.root_path)

    async def run(self) -> None:
        """Call the application, and see to it that the handshake is answered. Its errors are logged."""
        socket = self.socket
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except Exception:
            log.exception("Exception in ASGI application\n")
            if socket.is_answered:
                socket.close(close_code("internal"), "internal server error")
            else:
                socket.refuse(_FAILED)
        except asyncio.CancelledError:
            if not socket.is_answered:
                socket.refuse(_FAILED)
            raise
        else:
            if not socket.is_answered:
                log.error("ASGI callable returned without completing handshake.")
                socket.refuse(_FAILED)

    async def receive(self) -> Message:
        """ASGI's ``receive``: the connection, then its end. Messages do not pass here."""
        if not self._is_begun:
            self._is_begun = True
            return {"type": "websocket.connect"}
        if not self.socket.closed:
            self._gone = self._gone or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._gone)
        return {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    async def send(self, message: Message) -> None:
        """ASGI's ``send``: one answer, or an acceptance and a close."""
        socket, kind = self.socket, message["type"]
        if socket.closed:
            raise ClientDisconnected
        if socket.is_answered:
            if kind != "websocket.close":
                raise RuntimeError(f"{kind}: messages of a native WebSocket do not pass its application")
            socket.close(message.get("code", 1000), message.get("reason") or "")
        elif self._start is not None:
            self._add_to_answer(self._start, message)
        elif kind == "websocket.accept" and self.is_taken:
            socket.accept(subprotocol=message.get("subprotocol"), headers=message.get("headers", ()))
        elif kind == "websocket.close":
            socket.refuse(_plain(403, b""))
        elif kind == "websocket.http.response.start":
            self._start = message
        else:
            fix = "give Hub.websocket_class the prefix of Hub.asgi, and route no other WebSocket below it"
            raise RuntimeError(f"{kind} by another application than the hub at {self.path!r}: {fix}")

    def _add_to_answer(self, start: Message, message: Message) -> None:
        if message["type"] != "websocket.http.response.body":
            raise RuntimeError(f"{message['type']} after websocket.http.response.start: send its body")
        self._body += message.get("body", b"")
        if not message.get("more_body", False):
            self.socket.refuse((start["status"], list(start.get("headers", ())), self._body))

    def lost(self) -> None:
        """The socket has ended."""
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)


def _plain(status: int, body: bytes) -> Refusal:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    return status, headers, body


_FAILED: Final = _plain(500, b"Internal Server Error")
