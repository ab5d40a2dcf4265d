"""The client without its sockets: one machine that takes what happened and returns what to do.

Time (``now``: monotonic seconds, ``wall``: the wall clock), chance and input are arguments. `Machine.outputs`
is the work for a shell, which takes it and carries it out, in order. `web/heartwire.js` is the same
machine, and the vectors of `tests/vectors` hold both to the same behaviour.

This module has the inputs and the deadlines; `lifecycle` opens and loses connections, and `traffic` uses
them. A connection is known by its generation; what an old one still reports is ignored.

Promises: publications of a channel are delivered in order, each once, or a `Gap` says what is missing;
publishes are sent in order and applied once, however often they are sent; there are never more attempts than
the bucket allows.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, TypedDict, Unpack

from heartwire.client.connection import Connection
from heartwire.client.context import Context, Deadline
from heartwire.client.lifecycle import Hint, Lifecycle
from heartwire.client.options import Options
from heartwire.client.states import ABNORMAL, State
from heartwire.client.traffic import Traffic
from heartwire.client.wire import replies
from heartwire.types import Position

__all__ = ["Hint", "LossFacts", "Machine"]

_INSUFFICIENT_STATE: Final = 3010

_JUMP_S: Final = 3
"""A timer this late, or a wall clock this far ahead of the monotonic one, means that we slept."""


class LossFacts(TypedDict, total=False):
    """More about the end of a connection."""

    is_reachable: bool  # False where not even a TCP connection came about
    was_poll: bool  # the request of a `Poll` failed
    after_s: float  # when the server wants its client back


class Machine:
    """See the module. The shell empties `outputs` after each call.

    Args:
        options: checked ones.
        prefix: of idempotency keys; unique among clients.
        draw: chance, from 0 to 1.
        has_tokens: the application gives a token when it is asked (`AskToken`).
        token: the first one; "" for none.
        data: for the server's `on_connect`, as JSON values; ``None`` for none.
    """

    def __init__(
        self,
        options: Options,
        *,
        prefix: str,
        draw: Callable[[], float],
        now: float,
        wall: float,
        has_tokens: bool = False,
        token: str = "",
        data: Any = None,
    ) -> None:
        context = Context(options, draw=draw, now=now)
        self.outputs = context.outputs
        self.traffic = Traffic(context, prefix=prefix)
        self._context = context
        self._deadlines = context.deadlines
        self._looked_at = now, wall
        self._life = Lifecycle(context, self.traffic, has_tokens=has_tokens, token=token, data=data)

    @property
    def state(self) -> State:
        """See `heartwire.client.states`."""
        return self._life.state

    @property
    def current(self) -> Connection | None:
        """The connection in use."""
        return self._life.current

    @property
    def attempt(self) -> Connection | None:
        """The connection being tried."""
        return self._life.attempt

    @property
    def transport(self) -> str:
        """The transport in use; "" where there is none."""
        return self.current.transport if self.current is not None else ""

    @property
    def client_id(self) -> str:
        """The server's name for this client; "" before the first connection."""
        return self._life.client_id

    # -- calls of the application ----------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Connect, and stay connected."""
        self._at(now)
        if self.state is not State.CLOSED:
            self._deadlines["tick"] = now + self._context.options.tick_s
            self._life.try_now()

    def close(self, now: float) -> None:
        """Close for good. Idempotent."""
        self.fail(1000, "closed by the application", now)

    def fail(self, code: int, reason: str, now: float) -> None:
        """Close for good, because of a fault that no other attempt mends. Idempotent."""
        self._at(now)
        self._life.finish(code, reason, was_open=self.current is not None)

    def subscribe(
        self, channel: str, since: Position | Literal["earliest"] | None, now: float, token: str = ""
    ) -> None:
        """Follow a channel after ``since``; ``None``: from now on."""
        self._at(now)
        self.traffic.follow(channel, since, token)

    def unsubscribe(self, channel: str, now: float) -> None:
        """Stop following a channel."""
        self._at(now)
        self.traffic.unfollow(channel)

    def pause(self, channel: str, now: float) -> None:
        """Deliver nothing of a channel until `resume`; nothing is lost meanwhile that the server keeps."""
        self._at(now)
        self.traffic.pause(channel)

    def resume(self, channel: str, now: float) -> None:
        """Go on where a channel was paused."""
        self._at(now)
        self.traffic.resume(channel)

    def publish(self, channel: str, data: str, encoding: str, now: float, idempotency_key: str = "") -> str:
        """Publish JSON (or what ``encoding`` says). Return the key of the `Published` or `Rejected` to come,
        perhaps at once. It is the idempotency key, too, unless one is given."""
        self._at(now)
        return self.traffic.publish(channel, data, encoding, idempotency_key)

    def give_up(self, key: str, reason: str, now: float) -> None:
        """Reject a publish that is not answered yet, by its key: whoever waited does so no more."""
        self._at(now)
        self.traffic.publishes.give_up_one(key, reason)
        self.traffic.pump()

    def request(self, method: str, body: dict[str, Any], now: float) -> int:
        """Request ``presence``, ``presence_stats``, ``history`` or ``rpc``. Return the id of the `Answered`
        or `Failed` to come. Raises ``TypeError`` where ``body`` cannot be JSON."""
        self._at(now)
        return self.traffic.request(method, body)

    def token(self, token: str, now: float) -> None:
        """Answer `AskToken`."""
        self._at(now)
        self._life.token(token)

    def no_token(self, reason: str, now: float) -> None:
        """Answer `AskToken`: there is none for now."""
        self._at(now)
        self._life.no_token(reason)

    def hint(self, kind: Hint, now: float) -> None:
        """Take a report of the system: about the network, or that we were asleep."""
        self._at(now)
        self._life.hint(kind)

    # -- reports of the transports ---------------------------------------------------------------------------

    def received(self, generation: int, data: str, now: float) -> None:
        """A frame, or the body of an answer, came in."""
        self._at(now)
        connection = self._life.known(generation)
        if connection is None:
            return
        self._life.probing.heard(connection)
        try:
            for reply in replies(data):
                self._life.reply(connection, reply)
                if self._life.known(generation) is None:
                    return
        except ValueError as error:
            self._life.lost(connection, ABNORMAL, f"not of the protocol: {error}")
            return
        if connection is self.current:
            self.traffic.pump()
            if self.traffic.is_broken:
                self._life.lost(connection, _INSUFFICIENT_STATE, "something was left out")

    def sent(self, generation: int, now: float) -> None:
        """The request of a `Send` was answered, and the answer was given to `received`."""
        self._at(now)
        connection = self._life.known(generation)
        if connection is not None:
            connection.is_sending = False
            self._deadlines.pop("sending", None)
            if connection is self.current:
                self.traffic.pump()

    def polled(self, generation: int, now: float) -> None:
        """The request of the last `Poll` was answered, and the answer was given to `received`."""
        self._at(now)
        connection = self._life.known(generation)
        if connection is not None and connection is self.attempt:
            self._life.lost(connection, ABNORMAL, "an answer without a word of `connect`")
        elif connection is not None:
            self._life.polling.answered(connection)

    def lost(self, generation: int, code: int, reason: str, now: float, **facts: Unpack[LossFacts]) -> None:
        """A connection ended or could not be opened, or a request failed; ``code`` is `ABNORMAL` for none."""
        self._at(now)
        connection = self._life.known(generation)
        was_poll = facts.get("was_poll", False)
        if connection is None or (was_poll and code == ABNORMAL and self._life.polling.cut(connection)):
            return
        is_reachable, after_s = facts.get("is_reachable", True), facts.get("after_s", 0)
        self._life.lost(connection, code, reason, is_reachable=is_reachable, after_s=after_s)

    # -- time ------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when `handle_deadline` is to be called at the latest; ``None``: never."""
        return min(self._deadlines.values(), default=None)

    def handle_deadline(self, now: float, wall: float) -> None:
        """Time has passed. May be called at any time, with both clocks."""
        self._at(now)
        due = self.next_deadline()
        before, wall_before = self._looked_at
        self._looked_at = now, wall
        if due is not None and max(now - due, (wall - wall_before) - (now - before)) > _JUMP_S:
            self._life.woke()
        for name, handle in _DEADLINES:
            if self._deadlines.get(name, now + 1) <= now:
                del self._deadlines[name]
                handle(self)

    def _dead(self, reason: str) -> None:
        if self.current is not None:
            self._life.lost(self.current, ABNORMAL, reason)

    def _due_open(self) -> None:
        if self.attempt is not None:
            self._life.lost(self.attempt, ABNORMAL, "no answer in time", is_timeout=True)

    def _due_probe(self) -> None:
        self._dead(f"no answer to a probe within {self._context.options.probe_timeout_s:g} s")

    def _due_poll(self) -> None:
        if self.current is not None and self.current.is_pull:
            self._life.polling.poll(self.current)

    def _due_tick(self) -> None:
        self._deadlines["tick"] = self._context.now + self._context.options.tick_s

    def _at(self, now: float) -> None:
        self._context.now = now


_DEADLINES: Final[tuple[tuple[Deadline, Callable[[Machine], None]], ...]] = (
    ("token", lambda self: self.no_token("the application gave none in time", self._context.now)),
    ("open", Machine._due_open),
    ("probe", Machine._due_probe),
    ("silence", lambda self: self._dead("nothing was heard in time")),
    ("sending", lambda self: self._dead("a request was not answered in time")),
    ("attempt", lambda self: self._life.try_now()),
    ("refresh", lambda self: self._life.tokens.ask()),
    ("poll", Machine._due_poll),
    ("resend", lambda self: self.traffic.resend()),
    ("resubscribe", lambda self: self.traffic.resubscribe()),
    ("publish", lambda self: self.traffic.publishes.expire()),
    ("request", lambda self: self.traffic.requests.expire()),
    ("upgrade", lambda self: self._life.upgrade()),
    ("tick", Machine._due_tick),
)
"""In the order in which those that are due are handled."""
