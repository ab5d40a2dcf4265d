"""What an Engine.IO session is given: its doors, the layer above, and the services of its server."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from heartwire.dialects.socketio.engine_io import EngineSettings, Parcel

__all__ = ["Handler", "Reply", "Services", "Socket", "Timer", "Waiter"]


class Reply(Protocol):
    """A poll that is held."""

    def answer(self, status: int, body: bytes) -> None:
        """Answer it. Called once."""


class Socket(Protocol):
    """A WebSocket of the session, as its door has it."""

    @property
    def paused(self) -> bool:
        """Whether it is full."""

    @property
    def takes(self) -> bool:
        """See `Watched.takes`."""

    def send(self, parcel: Parcel) -> None:
        """Send messages behind all that was sent. Never raises."""

    def look(self) -> None:
        """See `Watched.ping`, of a socket that is full."""

    def close(self, reason: str) -> None:
        """Close it, behind what was sent. Idempotent."""

    def drained(self) -> Awaitable[None]:
        """What to await while it is full."""


class Handler(Protocol):
    """The layer above."""

    def message(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """A message came in. Returns what to await before the next one, if anything. Raises `BadPacket`."""

    def closed(self, reason: str) -> None:
        """The session has ended: nothing can be sent. Called once."""


class Timer(Protocol):
    def cancel(self) -> None: ...


class Waiter(Awaitable[None], Protocol):
    def done(self) -> bool: ...
    def set_result(self, result: None) -> None: ...


class Services(Protocol):
    """What a session needs of its server."""

    settings: EngineSettings

    def later(self, seconds: float, work: Callable[[], None]) -> Timer:
        """Call a function after a time."""

    def soon(self, work: Callable[[], None]) -> object:
        """Call a function after this turn of the event loop."""

    def waiter(self) -> Waiter:
        """What somebody waits for, and somebody else ends."""

    def beats(self, sid: str, *, is_answered: bool) -> None:
        """A session sends a ping, behind all that was sent; or its client has answered one."""

    def ended(self, sid: str) -> None:
        """A session has ended: requests with its sid are unknown from now on. Called once."""
