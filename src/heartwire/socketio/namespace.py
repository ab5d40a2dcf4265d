"""Namespaces as classes: a method for each event."""

from collections.abc import Callable
from typing import Any

from heartwire.server.socketio.entries import Room
from heartwire.server.socketio.program import NOT_HANDLED
from heartwire.socketio.calling import called

__all__ = ["AsyncNamespace"]


class AsyncNamespace:
    """A namespace whose events are handled by methods: ``on_connect``, ``on_disconnect``, and ``on_`` with an
    event's name. Their arguments are those of functions: see `AsyncServer.on`.

    Args:
        namespace: its name; ``"*"``: all that have no other handler; methods are then given the name first.

    The other methods are the server's, in this namespace.
    """

    server: Any = None

    def __init__(self, namespace: str | None = None) -> None:
        self.namespace = namespace or "/"

    async def trigger_event(self, event: str, *arguments: Any) -> Any:
        """Call the method of an event, and return what it returns. To be overridden for other rules."""
        method: Callable[..., Any] | None = getattr(self, f"on_{event}", None)
        return NOT_HANDLED if method is None else await called(method, event, arguments)

    async def emit(
        self,
        event: str,
        data: Any = None,
        to: Any = None,
        room: Any = None,
        skip_sid: str | list[str] | None = None,
        namespace: str | None = None,
        callback: Callable[..., Any] | None = None,
        ignore_queue: bool = False,
    ) -> None:
        """See `AsyncServer.emit`."""
        name = namespace or self.namespace
        await self.server.emit(event, data, to, room, skip_sid, name, callback, ignore_queue)

    async def send(
        self,
        data: Any,
        to: Any = None,
        room: Any = None,
        skip_sid: str | list[str] | None = None,
        namespace: str | None = None,
        callback: Callable[..., Any] | None = None,
        ignore_queue: bool = False,
    ) -> None:
        """See `AsyncServer.send`."""
        await self.emit("message", data, to, room, skip_sid, namespace, callback, ignore_queue)

    async def call(
        self,
        event: str,
        data: Any = None,
        to: str | None = None,
        sid: str | None = None,
        namespace: str | None = None,
        timeout: float | None = None,
        ignore_queue: bool = False,
    ) -> Any:
        """See `AsyncServer.call`."""
        name = namespace or self.namespace
        return await self.server.call(event, data, to, sid, name, 60 if timeout is None else timeout)

    async def enter_room(self, sid: str, room: Room, namespace: str | None = None) -> None:
        """See `AsyncServer.enter_room`."""
        await self.server.enter_room(sid, room, namespace or self.namespace)

    async def leave_room(self, sid: str, room: Room, namespace: str | None = None) -> None:
        """See `AsyncServer.leave_room`."""
        await self.server.leave_room(sid, room, namespace or self.namespace)

    async def close_room(self, room: Room, namespace: str | None = None) -> None:
        """See `AsyncServer.close_room`."""
        await self.server.close_room(room, namespace or self.namespace)

    def rooms(self, sid: str, namespace: str | None = None) -> list[Room]:
        """See `AsyncServer.rooms`."""
        return list(self.server.rooms(sid, namespace or self.namespace))

    async def get_session(self, sid: str, namespace: str | None = None) -> Any:
        """See `AsyncServer.get_session`."""
        return await self.server.get_session(sid, namespace or self.namespace)

    async def save_session(self, sid: str, session: Any, namespace: str | None = None) -> None:
        """See `AsyncServer.save_session`."""
        await self.server.save_session(sid, session, namespace or self.namespace)

    def session(self, sid: str, namespace: str | None = None) -> Any:
        """See `AsyncServer.session`."""
        return self.server.session(sid, namespace or self.namespace)

    async def disconnect(self, sid: str, namespace: str | None = None) -> None:
        """See `AsyncServer.disconnect`."""
        await self.server.disconnect(sid, namespace or self.namespace)
