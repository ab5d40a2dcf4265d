"""The functions of a program, found by namespace and event.

In: events, from the server. Out: calls of handlers, in the order of precedence that python-socketio has.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from heartwire.server.socketio.environ import environ_of
from heartwire.server.socketio.members import Member
from heartwire.server.socketio.program import NOT_HANDLED, Refusal
from heartwire.socketio import exceptions
from heartwire.socketio.calling import called
from heartwire.socketio.compat import Reasons
from heartwire.socketio.namespace import AsyncNamespace

__all__ = ["Handlers"]

RESERVED: Final = ("connect", "disconnect")

_REASONS: Final = {
    "client namespace disconnect": Reasons.CLIENT_DISCONNECT,
    "server namespace disconnect": Reasons.SERVER_DISCONNECT,
    "forced server close": Reasons.SERVER_DISCONNECT,
    "server shutting down": Reasons.SERVER_DISCONNECT,
    "forced close": Reasons.TRANSPORT_ERROR,
    "parse error": Reasons.TRANSPORT_ERROR,
}
"""Reasons of the protocol by python-socketio's words; the others are the same."""

_Found = tuple[Callable[..., Any], tuple[Any, ...]]


class Handlers:
    """See the module: the `Program` of a `SocketServer`."""

    def __init__(self, namespaces: Sequence[str] | str | None) -> None:
        self.functions: dict[str, dict[str, Callable[..., Any]]] = {}
        self.objects: dict[str, AsyncNamespace] = {}
        self._namespaces = ["/"] if namespaces is None else namespaces

    def knows(self, namespace: str) -> bool:
        """See `Program.knows`."""
        known = self._namespaces
        if namespace in self.functions or namespace in self.objects or known == "*" or namespace in known:
            return True
        return "*" in self.functions or "*" in self.objects

    async def connect(self, member: Member, auth: Any) -> None:
        """See `Program.connect`."""
        environ = environ_of(member.socket.client)
        environ["heartwire.recovered"] = member.is_recovered
        try:
            result = await self._trigger("connect", member, environ, auth or None)
        except exceptions.ConnectionRefusedError as error:
            raise Refusal(error.error_args) from None
        except ConnectionRefusedError:
            raise Refusal({"message": "Connection refused by server"}) from None
        if result is False:
            raise Refusal(exceptions.ConnectionRefusedError().error_args)

    async def event(self, member: Member, arguments: list[Any]) -> Any:
        """See `Program.event`."""
        name, *values = arguments
        return await self._trigger(str(name), member, *values)

    async def disconnect(self, member: Member, reason: str) -> None:
        """See `Program.disconnect`."""
        await self._trigger("disconnect", member, _REASONS.get(reason, reason))

    async def _trigger(self, event: str, member: Member, *values: Any) -> Any:
        namespace = member.socket.namespace
        arguments = (member.sid, *values)
        found = self._function(event, namespace, arguments)
        if found is not None:
            return await called(found[0], event, found[1])
        if namespace in self.objects:
            return await self.objects[namespace].trigger_event(event, *arguments)
        if "*" in self.objects:
            return await self.objects["*"].trigger_event(event, namespace, *arguments)
        return NOT_HANDLED

    def _function(self, event: str, namespace: str, arguments: tuple[Any, ...]) -> _Found | None:
        """The function of an event, and its arguments."""
        is_reserved = event in RESERVED
        for name, before in ((namespace, ()), ("*", (namespace,))):
            functions = self.functions.get(name, {})
            if event in functions:
                return functions[event], (*before, *arguments)
            if "*" in functions and not is_reserved:
                return functions["*"], (event, *before, *arguments)
        return None
