"""The program as the server asks it."""

from typing import Any, Final, Protocol

from heartwire.server.socketio.members import Member

__all__ = ["NOT_HANDLED", "NotConnected", "Program", "Refusal"]

NOT_HANDLED: Final = object()
"""What `Program.event` returns for an event without a handler: it is not answered."""


class Refusal(Exception):
    """The program does not let a client into a namespace; ``data`` is the packet's payload."""

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.data = data


class NotConnected(ValueError, KeyError):
    """No client of that name is in the namespace, here or on another node that can be asked. python-socketio
    raises ``ValueError`` for its room and ``KeyError`` for its session."""

    __str__ = ValueError.__str__


class Program(Protocol):
    """What the program says."""

    def knows(self, namespace: str) -> bool:
        """Whether there is such a namespace."""

    async def connect(self, member: Member, auth: Any) -> None:
        """A client comes. Raises `Refusal`."""

    async def event(self, member: Member, arguments: list[Any]) -> Any:
        """An event came in. Returns what its handler returns, or `NOT_HANDLED`."""

    async def disconnect(self, member: Member, reason: str) -> None:
        """A client has left."""
