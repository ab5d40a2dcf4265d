"""The life of a client's connections: tried, established, probed, lost, and tried again. Part of the machine.

There are at most two: the one in use (`current`) and the one being tried (`attempt`), because a better
transport is tried while the lesser goes on.
"""

from typing import Any, Final, Literal

from heartwire.client import outputs as out
from heartwire.client.attempts import Attempts
from heartwire.client.connection import Connection
from heartwire.client.context import Context, Deadline
from heartwire.client.polling import Polling
from heartwire.client.probing import Probing
from heartwire.client.states import LOCAL, TRANSITIONS, Event, State
from heartwire.client.tokens import Tokens
from heartwire.client.traffic import Traffic
from heartwire.client.wire import PONG, ConnectResult, ErrorBody, Reply, retry_after_s
from heartwire.codes import Verdict, verdict

__all__ = ["Hint", "Lifecycle"]

_TOO_LARGE: Final = 1009
_TOKEN_ERRORS: Final = frozenset({101, 109})

_OF_CURRENT: Final[tuple[Deadline, ...]] = ("probe", "silence", "sending", "poll", "upgrade", "refresh")
"""Deadlines of the connection in use."""

Hint = Literal["network_down", "network_up", "wake"]
"""A report of the system. It may be wrong: a connection has to prove itself, but never ends by it."""


class Lifecycle:
    """The connections of one client; `Machine` shows ``current``, in use, and ``attempt``, being tried."""

    def __init__(
        self, context: Context, traffic: Traffic, *, has_tokens: bool, token: str, data: Any
    ) -> None:
        self.state = State.WAITING
        self.current: Connection | None = None
        self.attempt: Connection | None = None
        self.client_id = ""
        self.tokens = Tokens(context, can_ask=has_tokens, token=token)
        self.polling = Polling(context, traffic, self._connect)
        self.probing = Probing(context, traffic, self.polling)
        self._attempts = Attempts(context)
        self._context = context
        self._options, self._outputs, self._deadlines = context.options, context.outputs, context.deadlines
        self._traffic = traffic
        self._data = data
        self._generation = 0
        self._is_network_down = False
        self._is_hinted = False  # while an attempt is under way: the network it began on may be gone

    def known(self, generation: int) -> Connection | None:
        """Return the connection of a generation; ``None`` where it is over."""
        for connection in (self.current, self.attempt):
            if connection is not None and connection.generation == generation:
                return connection
        return None

    # -- attempts --------------------------------------------------------------------------------------------

    def try_now(self) -> None:
        """Make an attempt as soon as the bucket allows it, unless there is a connection or an attempt."""
        is_under_way = self.attempt is not None or self.current is not None
        if is_under_way or self.state in (State.CONNECTING, State.CLOSED):
            return
        if self._attempts.take("attempt"):
            self._on("attempt", f"trying {self._attempts.ladder.transport}")
            if self.tokens.is_missing:
                self.tokens.ask()
            else:
                self._open(self._attempts.ladder.rung)

    def upgrade(self) -> None:
        """Try a better transport, as soon as the bucket allows it."""
        if self.current is None or self.attempt is not None or self._attempts.ladder.rung == 0:
            return
        if self.tokens.is_missing:
            self.tokens.ask()
            self._attempts.plan_upgrade()
        elif self._attempts.take("upgrade"):
            rung = self._attempts.ladder.better()
            assert rung is not None
            self._open(rung)

    def token(self, token: str) -> None:
        """Open the connection that waits for the application's token, or renew the current one."""
        self.tokens.answered(token)
        if self.current is None:
            if self.attempt is None and self.state is State.CONNECTING:
                self._open(self._attempts.ladder.rung)
        elif self.current.is_pull:  # each poll shows its own
            self.tokens.plan_refresh()
        else:
            id = self._traffic.next_id()
            self.current.queue.append(self.current.command(id, "refresh", {"token": token}))
            self._traffic.flush()

    def no_token(self, reason: str) -> None:
        """The application has no token for now: ask again later."""
        self.tokens.answered(None)
        if self.current is not None:
            self.tokens.refresh_later()
        elif self.attempt is None and self.state is State.CONNECTING:
            self._wait(LOCAL, f"no token: {reason}", was_open=False, delay_s=self._attempts.delay_s())

    def _open(self, rung: int) -> None:
        self._generation += 1
        transport = self._attempts.ladder.transports[rung]
        now, ping_interval_s = self._context.now, self._options.ping_interval_s
        connection = self.attempt = Connection(self._generation, transport, rung, now, ping_interval_s)
        self._deadlines["open"] = now + self._attempts.open_timeout_s()
        if connection.is_pull:
            self._outputs.append(out.Open(connection.generation, transport, ""))
            self.polling.poll(connection, wait_s=0)
        else:
            commands = [self._connect(connection), *self._traffic.subscribe_commands(connection, anew=True)]
            self._outputs.append(out.Open(connection.generation, transport, "\n".join(commands)))

    def _connect(self, connection: Connection) -> str:
        body: dict[str, Any] = {"name": "heartwire"}
        if self.tokens.token:
            body["token"] = self.tokens.token
        if self._data is not None:
            body["data"] = self._data
        subs = self._traffic.server_side_positions()
        if subs:
            body["subs"] = subs
        return connection.command(self._traffic.next_id(), "connect", body)

    # -- what the server says --------------------------------------------------------------------------------

    def reply(self, connection: Connection, reply: Reply) -> None:
        """Take one line of the server."""
        if reply.push is not None:
            if reply.push.disconnect is not None:
                self.lost(connection, reply.push.disconnect.code, reply.push.disconnect.reason)
            elif connection is self.current and reply.push.refresh is not None:
                self.tokens.expires(reply.push.refresh)
            elif connection is self.current:
                self._traffic.push(reply.push)
        elif not reply.id and not connection.is_pull:
            connection.had_heartbeat = True
            connection.queue.append(PONG)
            if connection is self.current:
                self._traffic.flush()
        elif reply.id in connection.waiting:
            method, of = connection.waiting.pop(reply.id)
            if method == "connect":
                self._connected(connection, reply)
            elif method == "refresh":
                self._refreshed(connection, reply)
            elif connection is self.current:
                self._traffic.reply(connection, reply.id, method, of, reply)

    def _connected(self, connection: Connection, reply: Reply) -> None:
        if reply.error is not None:
            self._refused(connection, reply.error)
        elif reply.connect is not None and connection is self.attempt:
            self._established(connection, reply.connect)
        elif reply.connect is not None:
            self._traffic.place_server_side(reply.connect.subs)

    def _refreshed(self, connection: Connection, reply: Reply) -> None:
        if reply.error is not None and reply.error.temporary:
            self.tokens.refresh_later(retry_after_s(reply.error.message))
        elif reply.error is not None:
            self._refused(connection, reply.error)
        elif reply.refresh is not None:
            self.tokens.expires(reply.refresh)

    def _refused(self, connection: Connection, error: ErrorBody) -> None:
        asks: Verdict = "token" if error.code in _TOKEN_ERRORS else "later" if error.temporary else "never"
        self.lost(connection, error.code, error.message, asks=asks)

    def _established(self, connection: Connection, result: ConnectResult) -> None:
        before = self.current
        self.attempt = None
        self._is_hinted = False
        self._context.forget("open", "attempt", *_OF_CURRENT)
        if before is not None:
            self._outputs.append(out.Close(before.generation))
            self._traffic.lost()
            self._outputs.append(out.Note("moved_up", before.transport, "", connection.transport))
        else:
            self.polling.reset()
        self.current = connection
        connection.online_at = self._context.now
        connection.ping_interval_s = result.ping or connection.ping_interval_s
        self.client_id = result.client
        self._attempts.established(connection, is_upgrade=before is not None)
        self.tokens.expires(result)
        if connection.transport == "sse":
            self._outputs.append(out.Session(connection.generation, result.session, result.node))
        self._on("established", connection.transport)
        self._traffic.online(connection, result.subs)
        self.probing.heard(connection)

    def hint(self, kind: Hint) -> None:
        """See `Machine.hint`."""
        if kind == "network_down":
            self._is_network_down = True
            if self.current is not None:
                self.probing.probe(self.current)
            elif self.state is State.WAITING:
                self._on("network_down", "the system says that there is no network")
            return
        if kind == "network_up":
            self._is_network_down = False
            if self.state is State.OFFLINE:
                self._on("network_up", "the system says that there is a network")
        self.woke()

    def woke(self) -> None:
        """Take a wake-up or a change of network: have the connection prove itself, or try at once."""
        if self.attempt is not None:
            self._is_hinted = self.current is None
            due = self._deadlines["open"]
            if due <= self._context.now:
                self.probing.excuse(self.attempt, "open")
            else:  # on a network that is gone it is not worth more time than a new attempt
                self._deadlines["open"] = min(due, self._context.now + self._options.open_timeout_s)
        if self.current is not None:
            self.probing.probe(self.current)
        elif self._context.now >= self._attempts.not_before:
            self._context.forget("attempt")
            self.try_now()
        elif self.attempt is None and "attempt" in self._deadlines:
            self._deadlines["attempt"] = self._attempts.not_before

    # -- the end of a connection -----------------------------------------------------------------------------

    def lost(
        self,
        connection: Connection,
        code: int,
        reason: str,
        *,
        asks: Verdict | None = None,
        is_reachable: bool = True,
        is_timeout: bool = False,
        after_s: float = 0,
    ) -> None:
        """End a connection, and decide what is next."""
        self._outputs.append(out.Close(connection.generation))
        asks = asks or verdict(code)
        if asks == "token":
            asks = "now" if self.tokens.drop() else "never"
        least_s = max(after_s, retry_after_s(reason), self._options.later_s if asks == "later" else 0.0)
        self._attempts.hold_off(least_s)
        was_open = connection is self.current
        if was_open:
            self._forget_current(code, reason)
        else:
            self.attempt = None
            self._context.forget("open")
            if self.current is not None:
                self._outputs.append(out.Note("not_yet", connection.transport, reason))
                self._attempts.plan_upgrade()
                return
        if asks == "never":
            self.finish(code, reason, was_open=was_open)
            return
        at_once = self._is_hinted
        self._is_hinted = False
        if self._attempts.blame(connection, code, reason, is_reachable=is_reachable, is_timeout=is_timeout):
            at_once = True
        self._wait(code, reason, was_open=was_open, delay_s=self._attempts.delay_s(at_once=at_once))

    def finish(self, code: int, reason: str, *, was_open: bool) -> None:
        """Close for good. Idempotent."""
        if self.state is State.CLOSED:
            return
        self._context.is_closed = True
        for connection in (self.current, self.attempt):
            if connection is not None:
                self._outputs.append(out.Close(connection.generation))
        self.current = self.attempt = None
        self._traffic.close(reason)
        self._on("closed", reason)
        self._outputs.append(out.Closed(code, reason, was_open, -1))
        self._deadlines.clear()

    def _forget_current(self, code: int, reason: str) -> None:
        self.current = None
        self._context.forget(*_OF_CURRENT)
        if code == _TOO_LARGE:
            self._traffic.publishes.reject_largest(reason)
        self._traffic.lost()

    def _wait(self, code: int, reason: str, *, was_open: bool, delay_s: float) -> None:
        """No connection is in use; make the next attempt in ``delay_s``."""
        self._on("lost", reason)
        self._outputs.append(out.Closed(code, reason, was_open, delay_s if self.attempt is None else 0.0))
        if self.attempt is not None:  # a better transport is on its way already
            self._on("attempt", f"trying {self.attempt.transport}")
            return
        if self._is_network_down:
            self._on("network_down", "the system says that there is no network")
        self._deadlines["attempt"] = self._context.now + delay_s
        if not delay_s:
            self.try_now()

    def _on(self, event: Event, reason: str) -> None:
        state = TRANSITIONS[self.state, event]
        if state is not self.state or event == "established":
            self.state = state
            self._outputs.append(out.StateChanged(state.value, reason))
