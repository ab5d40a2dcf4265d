"""One connection: what comes in, liveness, deadlines, and what the server does to it.

A transport gives frames to `Session.receive`. Commands are handled one after the other, in the order they
came. A handler is done at once, or it is a coroutine that is begun at once; only where it has to wait (for
an engine on disk, for the application) is there something for the transport to await.

The session does what `heartwire.core.liveness` asks of a link: it is pinged, and only a pong is an answer.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

from heartwire.codes import CODES
from heartwire.core.fair_queue import SLICE
from heartwire.core.waiting import begun
from heartwire.dialects.centrifugal import connecting, publishing, requests, subscribing
from heartwire.dialects.centrifugal.state import NEW, OPEN, REFUSED, SessionState
from heartwire.dialects.centrifugal.subscribing import seconds
from heartwire.dialects.centrifugal.types import Command, Fault, MessageBody, RefreshResult
from heartwire.dialects.centrifugal.values import Disconnected
from heartwire.errors import Refused
from heartwire.types import ServerSubscription

__all__ = ["Session"]

_OUT_BYTES: Final = 64 * 1024
"""Answers that are gathered for one frame; a command's own may be longer."""

_Handler = Callable[[SessionState, int, Any], Coroutine[Any, Any, None] | None]

_METHODS: Final[tuple[tuple[str, _Handler], ...]] = (
    ("connect", connecting.connect),
    ("publish", publishing.publish),
    ("subscribe", subscribing.subscribe),
    ("unsubscribe", subscribing.unsubscribe),
    ("presence", requests.presence),
    ("presence_stats", requests.presence_stats),
    ("history", requests.history),
    ("ping", requests.ping),
    ("rpc", requests.rpc),
    ("send", requests.send),
    ("refresh", connecting.refresh),
    ("sub_refresh", subscribing.sub_refresh),
)


class Session(SessionState):
    """See the module, and `SessionState`."""

    __slots__ = ()

    # -- inbound ---------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> Awaitable[None] | None:
        """Take a frame. Returns what to await before the next one, if anything."""
        self.now = now
        self._in_turn = self.waiting = True
        rest = None
        try:
            commands = self.codec.commands(data)
            if type(commands) is tuple and len(commands) == 1:  # most often
                rest = self._handle(commands[0])
            else:
                rest = begun(self._handle_all(commands))
        except ValueError as error:  # from the codec; `_handle` catches those of handlers
            self.disconnect("bad_request", f"bad request: {error}")
        self._in_turn = False
        self.flush()
        if rest is not None:
            return self._wait(rest)
        self.waiting = False
        return None

    async def _wait(self, rest: Awaitable[None]) -> None:
        try:
            await rest
        except ValueError as error:
            self.disconnect("bad_request", f"bad request: {error}")
        finally:
            self.waiting = False

    async def _handle_all(self, commands: Iterable[Command | Fault]) -> None:
        left = SLICE
        for command in commands:
            if not left or self._out_bytes > _OUT_BYTES:
                left = await self._next_slice()
            left -= 1
            rest = self._handle(command)
            if rest is not None:
                await rest
            if self.phase is not OPEN:
                break

    async def _next_slice(self) -> int:
        """Send the answers so far. Wait until the client has taken them, then for a turn. Returns how many
        commands may follow."""
        self.flush()
        await self.outlet.drained()
        await self.port.next_turn()
        return SLICE

    def _refuse_fault(self, fault: Fault) -> None:
        """Answer a command that cannot be carried out. Without `connect` there is no connection to keep."""
        if self.phase is OPEN:
            self.refuse(fault.id, "", Refused("bad_request", fault.why))
        elif self.phase is NEW:
            self.disconnect("bad_request", f"bad request: {fault.why}")

    def _handle(self, command: Command | Fault) -> Awaitable[None] | None:
        """Handle one command; the checks in the protocol's order. Returns what to await before the next
        one, if anything."""
        if isinstance(command, Fault):
            self._refuse_fault(command)
            return None
        if self.phase is not OPEN:
            if self.phase is not NEW:
                return None
            if command.connect is None:
                self.disconnect("bad_request", "bad request: connect comes first")
                return None
        if not command.id and command.send is None:
            self._pong()
            return None
        for name, handler in _METHODS:
            request = getattr(command, name)
            if request is None:
                continue
            try:
                work = handler(self, command.id, request)
                rest = None if work is None else begun(work)
            except Exception as error:
                self._fail(command.id, name, error)
                return None
            return None if rest is None else self._finish(command.id, name, rest)
        self.disconnect("bad_request", "bad request: unknown command")
        return None

    async def _finish(self, id: int, name: str, rest: Awaitable[None]) -> None:
        try:
            await rest
        except Exception as error:
            self._fail(id, name, error)

    def _fail(self, id: int, name: str, error: Exception) -> None:
        if isinstance(error, Disconnected):
            self.disconnect(error.code.name, error.reason)
        else:
            self.refuse(id, name, error)

    # -- liveness: see heartwire.core.liveness.Watched -------------------------------------------------------

    @property
    def heard(self) -> bool:
        """A pong has come; or none could, because a command is being handled, or the outlet was full."""
        if self._ponged or (self._asks_outlet and self.outlet.heard):
            return True
        return (self.waiting or not self.pong) and not self.outlet.paused

    @heard.setter
    def heard(self, value: bool) -> None:
        self._ponged = value

    @property
    def takes(self) -> bool:
        """See `Watched.takes`."""
        return self.outlet.takes

    def ping(self) -> None:
        """Ask for a pong. A full outlet could not take the ping: that it takes anything is the sign then."""
        self._asks_outlet = self.outlet.paused
        if self._asks_outlet:
            self.outlet.heard = False
            self.outlet.look()
        else:
            self.flush()
            self._unanswered += 1
            self.outlet.write([self.codec.ping])

    def _pong(self) -> None:
        if not self._unanswered:
            self.disconnect("bad_request", "bad request: a pong without a ping")
            return
        # Perhaps of a ping before the last one: the pong waited while a command was handled.
        self._unanswered -= 1
        self._ponged = True

    def give_up(self) -> None:
        """End the connection: no pong came."""
        if self.end(CODES["no_pong"].close_code, CODES["no_pong"].reason):
            self.outlet.give_up()

    def handle_deadline(self, now: float) -> None:
        """A time that was asked for by `Port.call_at` has come."""
        self._deadline = None
        if self.phase in (NEW, REFUSED):
            self.disconnect("stale")
        elif self.expires_at is not None and self.expires_at <= now:
            self.disconnect("connection_expired")
        else:
            subscribing.expire(self, now)
            if self.phase is OPEN:
                self.set_deadline()

    # -- for the server --------------------------------------------------------------------------------------

    @property
    def user(self) -> str:
        """The user's name; "" when anonymous, and before `connect`."""
        return self.member.user

    def subscribe(self, wanted: ServerSubscription) -> Awaitable[None] | None:
        """Subscribe it, with a ``subscribe`` push, unless it is subscribed. Returns what to await, if any.
        Raises `Refused`, at once or when awaited."""
        return begun(subscribing.subscribe_server_side(self, wanted))

    def unsubscribe(self, channel: str, code: int = 2000, reason: str = "server unsubscribe") -> bool:
        """End a subscription, with an ``unsubscribe`` push; whether there was one. Codes under 2500 are for
        good; ``reason`` is not empty."""
        sub = self.subs.get(channel)
        if sub is not None:
            sub.end(code, reason)
        return sub is not None

    def message(self, data: bytes) -> None:
        """Push a message that belongs to no channel."""
        if self.phase is OPEN:
            self.push("message", "", MessageBody(self.codec.payload(data)))

    def refreshed(self, ttl_s: float | None) -> None:
        """Set how long the connection lives (0: it ends after the grace), with a ``refresh`` push."""
        self.expires_at = self.expiry(ttl_s)
        if self.phase is OPEN:
            self.push("refresh", "", RefreshResult(ttl_s is not None, seconds(ttl_s)))

    def lost(self) -> None:
        """End the session: the peer is gone. Idempotent."""
        self.end(CODES["connection_closed"].close_code, CODES["connection_closed"].reason)
