"""The hub behind the native door: which paths are ours, and what a handshake opens."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.requests import HTTPConnection

from heartwire.dialects.plain.requests import Follow
from heartwire.errors import HeartwireError, Refused
from heartwire.hub.identity import ANONYMOUS, Identity
from heartwire.hub.origins import check_origin
from heartwire.server.centrifugal.sockets import PATH, open_native
from heartwire.server.plain.formats import NATIVE, NATIVE_DEFLATED
from heartwire.server.plain.requests import admit, read_follow
from heartwire.server.plain.sockets import PlainSocket
from heartwire.server.responses import refusal
from heartwire.server.routes import socket_channels, split_path
from heartwire.transports.websocket.deflate import negotiate
from heartwire.transports.websocket.handshake import Refusal, choose_subprotocol
from heartwire.transports.websocket.native import NativeSocket

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub

__all__ = ["HubDoor"]

log = logging.getLogger("heartwire")


class HubDoor:
    """`SocketDoor` to one hub, whose application is mounted at ``prefix`` ("" for the root)."""

    def __init__(self, hub: "Hub", prefix: str) -> None:
        self.switchboard = hub.switchboard
        self.max_message_bytes = hub.options.max_message_bytes
        self._hub = hub
        self._prefix = prefix.rstrip("/")
        self._stopped_with: set[Any] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def claims(self, path: str) -> bool:
        """See `SocketDoor.claims`."""
        if not path.startswith(self._prefix):
            return False
        rest = path[len(self._prefix) :]
        return rest in ("", "/", "/channels", PATH) or rest.startswith(("/channels/", "/channels?"))

    def bad_handshake(self, name: str, message: str) -> Refusal:
        """See `SocketDoor.bad_handshake`."""
        return _refusal(Refused(name, message))

    def stop_with(self, connections: set[Any]) -> None:
        """See `SocketDoor.stop_with`: one entry for all of our connections, each of which would cost more
        than it says."""
        connections.add(self)
        self._stopped_with = connections

    def shutdown(self) -> None:
        """uvicorn is stopping."""
        self._stopped_with.discard(self)
        self._hub.drain()

    def answer_handshake(self, socket: NativeSocket, scope: dict[str, Any]) -> None:
        """See `SocketDoor.answer_handshake`: at once, where nobody has to be asked."""
        hub = self._hub
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            check_origin(given.get("origin"), given.get("host", ""), hub.options.allowed_origins)
        except Refused as error:
            socket.refuse(_refusal(error))
            return
        try:
            if not hub.is_started:
                self._later(socket, scope, given, None)
                return
            if self._is_centrifugal(scope):
                open_native(hub, socket, scope, given)
                return
            follow = self._follow(scope, given)
            if hub.authenticator is None and not any(
                hub.namespaces.asks(channel, "subscribe") for channel in follow.channels
            ):
                self._open(socket, scope, given, follow, ANONYMOUS)
            else:
                self._later(socket, scope, given, follow)
        except HeartwireError as error:
            _accept_and_close(socket, error)

    def _is_centrifugal(self, scope: dict[str, Any]) -> bool:
        return bool(scope["path"][len(self._prefix) :] == PATH)

    def _follow(self, scope: dict[str, Any], given: dict[str, str]) -> Follow:
        """What a handshake of the plain dialect asks for. Raises `Refused`, also where it is not its turn."""
        self._hub.connections.admit(self._hub.clock())
        pairs = (
            parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            if scope["query_string"]
            else []
        )
        path = split_path(scope["path"][len(self._prefix) :])
        names, is_multi = socket_channels(path, lambda: [value for name, value in pairs if name == "channel"])
        return read_follow(
            self._hub, names, dict(pairs), is_multi=is_multi, resume=given.get("last-event-id")
        )

    def _later(
        self, socket: NativeSocket, scope: dict[str, Any], given: dict[str, str], follow: Follow | None
    ) -> None:
        task = asyncio.ensure_future(self._admit(socket, scope, given, follow))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _admit(
        self, socket: NativeSocket, scope: dict[str, Any], given: dict[str, str], follow: Follow | None
    ) -> None:
        try:
            await self._hub.ensure_started()
            if self._is_centrifugal(scope):
                if not socket.closed:
                    open_native(self._hub, socket, scope, given)
                return
            if follow is None:
                follow = self._follow(scope, given)
            scope = scope | {"root_path": self._prefix, "path": "/".join(["", *split_path(scope["path"])])}
            identity = await admit(self._hub, HTTPConnection(scope), follow)
            if not socket.closed:
                self._open(socket, scope, given, follow, identity)
        except HeartwireError as error:
            _accept_and_close(socket, error)
        except Exception:
            log.exception("WebSocket %s failed", scope["path"])
            _accept_and_close(
                socket, HeartwireError("internal server error: the server's log has the details")
            )

    def _open(
        self,
        socket: NativeSocket,
        scope: dict[str, Any],
        given: dict[str, str],
        follow: Follow,
        identity: Identity,
    ) -> None:
        hub = self._hub
        socket.serial = hub.serial()
        client = scope["client"]
        extensions = None
        if hub.options.compress and "sec-websocket-extensions" in given:
            extensions = negotiate(_values(scope, b"sec-websocket-extensions"))
        formats = NATIVE if extensions is None else NATIVE_DEFLATED
        session = PlainSocket(hub, socket, follow, identity, formats, client[0] if client else "")
        subprotocol = None
        if "sec-websocket-protocol" in given:
            known = hub.namespaces.of(follow.channels[0]).subprotocols
            subprotocol = choose_subprotocol(_offered(scope), known)
        socket.accept(session, subprotocol=subprotocol, extensions=extensions)
        session.open(follow)


def _offered(scope: dict[str, Any]) -> list[str]:
    return [
        token.strip() for value in _values(scope, b"sec-websocket-protocol") for token in value.split(",")
    ]


def _values(scope: dict[str, Any], wanted: bytes) -> list[str]:
    """A header that may stand on several lines (RFC 9110 5.3)."""
    return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]


def _accept_and_close(socket: NativeSocket, error: HeartwireError) -> None:
    """Refuse after accepting: a browser is not shown why a handshake failed."""
    if not socket.closed:
        socket.accept(None)
        socket.close(error.code.close_code, str(error))


def _refusal(error: Refused) -> Refusal:
    response = refusal(error)
    return response.status_code, response.raw_headers, bytes(response.body)
