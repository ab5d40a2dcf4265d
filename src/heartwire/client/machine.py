"""The client without its sockets: everything that is decided, as one machine that is told what happened and
says what to do.

Time (``now``: monotonic seconds, ``wall``: the clock on the wall), randomness and what came in are arguments;
what is to be done is in `Machine.outputs`, for a shell to take and carry out, in order. `web/heartwire.js` is
the same machine, and the vectors of `tests/vectors` hold both to the same behaviour.

There are at most two connections: the one in use (`current`) and the one being tried (`attempt`), because a
better transport is tried while the lesser goes on. A connection is known by its generation; what an old one
still says is not heard.

Promises: publications of a channel are delivered in order, each once, or a `Gap` says what is missing; what
is published is sent in order and applied once, however often it is sent; there are never more attempts than
the bucket allows.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

from heartwire.client import outputs as out
from heartwire.client.connection import Connection
from heartwire.client.ladder import Ladder
from heartwire.client.options import Options
from heartwire.client.retry import Backoff, Bucket
from heartwire.client.states import ABNORMAL, LOCAL, TRANSITIONS, Event, State, Verdict, verdict
from heartwire.client.traffic import Traffic
from heartwire.client.wire import PONG, ConnectResult, ErrorBody, RefreshResult, Reply, replies, retry_after_s
from heartwire.types import Position

__all__ = ["Hint", "Machine"]

_INSUFFICIENT_STATE: Final = 3010
_TOO_LARGE: Final = 1009

_JUMP_S: Final = 3
"""A timer this late, or a wall clock this far ahead of the monotonic one, means that we slept."""

_CUT_AFTER_S: Final = 2
"""A long poll that ends without an answer, but not at once, was cut by something in between."""

_SHORTEST_WAIT_S: Final = 1.0
_SHORTEST_TTL_S: Final = 1.0
"""However short the life of a token, the application is not asked for a new one more often."""

_QUICK_S: Final = 0.5

Hint = Literal["network_down", "network_up", "wake"]
"""What the system says: it may be wrong, so it never ends a connection, but has the connection prove
itself."""

_TokenErrors: Final = frozenset({101, 109})


class Machine:
    """See the module.

    Args:
        options: checked ones.
        prefix: of idempotency keys; unique among clients.
        draw: chance, from 0 to 1.
        now, wall: the clocks.
        has_tokens: the application gives a token when it is asked (`AskToken`).
        token: one to begin with; "": none.
        data: for the server's `on_connect`, as JSON values; ``None``: nothing.

    Attributes:
        outputs: what is to be done. To be emptied by the shell after each call.
        state: see `heartwire.client.states`.
        transport: of the connection in use; "": there is none.
        client_id: what the server calls us; "" before it has.
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
        self.outputs: list[out.Output] = []
        self.state = State.WAITING
        self.current: Connection | None = None
        self.attempt: Connection | None = None
        self.client_id = ""
        self._options = options
        self._now = now
        self._looked_at = now, wall
        self._deadlines: dict[str, float] = {}
        self._ladder = Ladder(options.transports, options.first_transport)
        self._bucket = Bucket(options.attempt_rate_per_s, options.attempt_burst, now)
        self._backoff = Backoff(base_s=options.backoff_base_s, cap_s=options.backoff_cap_s, draw=draw)
        self._draw = draw
        self._generation = 0
        self._has_tokens = has_tokens
        self._token = token
        self._token_ttl_s: float | None = None
        self._is_asking_token = False
        self._data = data
        self._is_network_down = False
        self._is_hinted = False  # while an attempt is under way; what that began on may be gone
        self._not_before = now
        self._upgrade_s = options.upgrade_after_s
        self._poll_wait_s = options.poll_wait_s
        self.traffic = Traffic(options, self.outputs, self._deadlines, prefix=prefix, draw=draw, now=now)

    @property
    def transport(self) -> str:
        """See the class."""
        return self.current.transport if self.current is not None else ""

    # -- what the application does ---------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Connect, and stay connected."""
        self._at(now)
        if self.state is not State.CLOSED:
            self._deadlines["tick"] = now + self._options.tick_s
            self._try()

    def close(self, now: float) -> None:
        """End it for good. Idempotent."""
        self._at(now)
        self._finish(1000, "closed by the application", was_open=self.current is not None)

    def subscribe(
        self, channel: str, since: Position | Literal["earliest"] | None, now: float, token: str = ""
    ) -> None:
        """Follow a channel, from ``since`` on (``None``: from now on)."""
        self._at(now)
        self.traffic.follow(channel, since, token)

    def unsubscribe(self, channel: str, now: float) -> None:
        """Follow it no more."""
        self._at(now)
        self.traffic.unfollow(channel)

    def pause(self, channel: str, now: float) -> None:
        """Deliver nothing of it until `resume`; nothing is lost meanwhile that the server keeps."""
        self._at(now)
        self.traffic.pause(channel)

    def resume(self, channel: str, now: float) -> None:
        """Go on where it was paused."""
        self._at(now)
        self.traffic.resume(channel)

    def publish(self, channel: str, data: str, encoding: str, now: float, idempotency_key: str = "") -> str:
        """Publish JSON (or what ``encoding`` says); the key by which `Published` or `Rejected` will come,
        perhaps at once.

        The same key is the one for idempotency, unless there is another.
        """
        self._at(now)
        return self.traffic.publish(channel, data, encoding, idempotency_key)

    def request(self, method: str, body: dict[str, Any], now: float) -> int:
        """Ask ``presence``, ``presence_stats``, ``history`` or ``rpc``; the id by which `Answered` or
        `Failed` will come.

        Raises ``TypeError`` where ``body`` cannot be JSON.
        """
        self._at(now)
        return self.traffic.request(method, body)

    def token(self, token: str, now: float) -> None:
        """The answer to `AskToken`."""
        self._at(now)
        self._is_asking_token = False
        self._deadlines.pop("token", None)
        self._token = token
        if self.current is not None:
            if self.current.is_pull:  # each poll shows its own
                self._plan_refresh()
            else:
                id = self.traffic.next_id()
                self.current.queue.append(self.current.command(id, "refresh", {"token": token}))
                self.traffic.flush()
        elif self.attempt is None and self.state is State.CONNECTING:
            self._open(self._ladder.rung)

    def no_token(self, reason: str, now: float) -> None:
        """The other answer to `AskToken`: there is none for now."""
        self._at(now)
        self._is_asking_token = False
        self._deadlines.pop("token", None)
        if self.current is not None:
            self._deadlines["refresh"] = now + self._options.later_s
        elif self.attempt is None and self.state is State.CONNECTING:
            delay_s = max(self._not_before - self._now, self._backoff.next_s())
            self._wait(LOCAL, f"no token: {reason}", was_open=False, delay_s=delay_s)

    def hint(self, kind: Hint, now: float) -> None:
        """The system says something about the network, or that we were asleep."""
        self._at(now)
        if kind == "network_down":
            self._is_network_down = True
            if self.current is not None:
                self._probe()
            elif self.state is State.WAITING:
                self._on("network_down", "the system says that there is no network")
            return
        if kind == "network_up":
            self._is_network_down = False
            if self.state is State.OFFLINE:
                self._on("network_up", "the system says that there is a network")
        self._woke()

    # -- what the transports say -----------------------------------------------------------------------------

    def received(self, generation: int, data: str, now: float) -> None:
        """A frame, or the body of an answer, came in."""
        self._at(now)
        connection = self._known(generation)
        if connection is None:
            return
        self._heard(connection)
        try:
            for reply in replies(data):
                self._reply(connection, reply)
                if self._known(generation) is None:
                    return
        except ValueError as error:
            self._lost(connection, ABNORMAL, f"not of the protocol: {error}")
            return
        if connection is self.current:
            self.traffic.pump()
            if self.traffic.is_broken:
                self._lost(connection, _INSUFFICIENT_STATE, "something was left out")

    def sent(self, generation: int, now: float) -> None:
        """The request of a `Send` was answered, and the answer was given to `received`."""
        self._at(now)
        connection = self._known(generation)
        if connection is not None:
            connection.is_sending = False
            self._deadlines.pop("sending", None)
            if connection is self.current:
                self.traffic.pump()

    def polled(self, generation: int, now: float) -> None:
        """The request of the last `Poll` was answered, and the answer was given to `received`."""
        self._at(now)
        connection = self._known(generation)
        if connection is None:
            return
        if connection is self.attempt:
            self._lost(connection, ABNORMAL, "an answer without a word of `connect`")
            return
        if connection.cut_after_s:
            self._poll_wait_s = max(_SHORTEST_WAIT_S, connection.cut_after_s * 0.6)
            connection.cut_after_s = 0
            self._note(f"long polls are cut in between: asking for {self._poll_wait_s:.1f} s from now on")
        self._deadlines.pop("silence", None)
        connection.had_heartbeat = (
            connection.had_heartbeat or connection.wait_s > 0 or connection.transport == "poll"
        )
        took_s = now - connection.polled_at
        if connection.transport == "poll":
            is_idle = not (connection.had_full_page and connection.had_news)
        else:
            is_idle = (
                not connection.had_news
                and took_s < _QUICK_S
                and (connection.wait_s > 0 or not self.traffic.is_settled)
            )
        if is_idle:
            self._deadlines.setdefault("poll", now + self._options.poll_interval_s)
        elif "poll" not in self._deadlines:
            self._poll(connection)

    def lost(
        self,
        generation: int,
        code: int,
        reason: str,
        now: float,
        *,
        is_reachable: bool = True,
        was_poll: bool = False,
        after_s: float = 0,
    ) -> None:
        """A connection ended or could not be opened, or one of its requests failed.

        Args:
            code: what the server said, `ABNORMAL` where it said nothing.
            is_reachable: False where not even a TCP connection came about.
            was_poll: it was the request of a `Poll` that failed.
            after_s: what the server said about when to come back.
        """
        self._at(now)
        connection = self._known(generation)
        if connection is None:
            return
        took_s = now - connection.polled_at
        was_held = (
            connection is self.current and connection.wait_s > _SHORTEST_WAIT_S and took_s >= _CUT_AFTER_S
        )
        if was_poll and code == ABNORMAL and was_held:
            connection.cut_after_s = took_s
            self._poll(connection, wait_s=0)
        else:
            self._lost(connection, code, reason, is_reachable=is_reachable, after_s=after_s)

    # -- time ------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `handle_deadline` is to be called at the latest; ``None``: never."""
        return min(self._deadlines.values(), default=None)

    def handle_deadline(self, now: float, wall: float) -> None:
        """Time has passed. To be called at any time, with both clocks."""
        self._at(now)
        due = self.next_deadline()
        before, wall_before = self._looked_at
        self._looked_at = now, wall
        if due is not None and max(now - due, (wall - wall_before) - (now - before)) > _JUMP_S:
            self._woke()
        for name, handle in _DEADLINES:
            if self._deadlines.get(name, now + 1) <= now:
                del self._deadlines[name]
                handle(self)

    def _dead(self, reason: str) -> None:
        if self.current is not None:
            self._lost(self.current, ABNORMAL, reason)

    def _due_open(self) -> None:
        if self.attempt is not None:
            self._lost(self.attempt, ABNORMAL, "no answer in time", is_timeout=True)

    def _due_poll(self) -> None:
        if self.current is not None and self.current.is_pull:
            self._poll(self.current)

    def _due_resubscribe(self) -> None:
        self.traffic.resubscribe()
        self.traffic.flush()

    def _due_tick(self) -> None:
        self._deadlines["tick"] = self._now + self._options.tick_s

    def _due_upgrade(self) -> None:
        if self.current is None or self.attempt is not None or self._ladder.rung == 0:
            return
        if self._has_tokens and not self._token:
            self._ask_token()
            self._plan_upgrade()
            return
        wait_s = self._bucket.take(self._now)
        if wait_s:
            self._deadlines["upgrade"] = self._now + wait_s
            return
        rung = self._ladder.better()
        if rung is not None:
            self._open(rung)

    # -- attempts --------------------------------------------------------------------------------------------

    def _try(self) -> None:
        """Make an attempt, as soon as the bucket lets us."""
        if (
            self.attempt is not None
            or self.current is not None
            or self.state in (State.CONNECTING, State.CLOSED)
        ):
            return
        wait_s = self._bucket.take(self._now)
        if wait_s:
            self._deadlines["attempt"] = self._now + wait_s
            return
        self._deadlines.pop("attempt", None)
        self._on("attempt", f"trying {self._ladder.transport}")
        if self._has_tokens and not self._token:
            self._ask_token()
        else:
            self._open(self._ladder.rung)

    def _ask_token(self) -> None:
        if not self._is_asking_token:
            self._is_asking_token = True
            self._deadlines["token"] = self._now + self._options.open_timeout_cap_s
            self.outputs.append(out.AskToken())

    def _open(self, rung: int) -> None:
        options = self._options
        self._generation += 1
        transport = self._ladder.transports[rung]
        connection = Connection(self._generation, transport, rung, self._now, options.ping_interval_s)
        self.attempt = connection
        timeout_s = min(
            options.open_timeout_cap_s, options.open_timeout_s * 2.0 ** min(self._ladder.rounds, 60)
        )
        self._deadlines["open"] = self._now + timeout_s
        if connection.is_pull:
            self.outputs.append(out.Open(connection.generation, transport, ""))
            self._poll(connection, wait_s=0)
        else:
            commands = [self._connect(connection), *self.traffic.subscribe_commands(connection, anew=True)]
            self.outputs.append(out.Open(connection.generation, transport, "\n".join(commands)))

    def _connect(self, connection: Connection) -> str:
        body: dict[str, Any] = {"name": "heartwire"}
        if self._token:
            body["token"] = self._token
        if self._data is not None:
            body["data"] = self._data
        subs = self.traffic.server_side_positions()
        if subs:
            body["subs"] = subs
        return connection.command(self.traffic.next_id(), "connect", body)

    def _connected(self, connection: Connection, reply: Reply) -> None:
        if reply.error is not None:
            self._refused(connection, reply.error)
        elif reply.connect is not None and connection is self.attempt:
            self._established(connection, reply.connect)
        elif reply.connect is not None:
            self.traffic.place_server_side(reply.connect.subs)

    def _refused(self, connection: Connection, error: ErrorBody) -> None:
        asks: Verdict = "token" if error.code in _TokenErrors else "later" if error.temporary else "never"
        self._lost(connection, error.code, error.message, asks=asks)

    def _established(self, connection: Connection, result: ConnectResult) -> None:
        self.attempt = None
        self._is_hinted = False
        for name in ("open", "attempt", "probe", "silence", "sending", "poll", "upgrade", "refresh"):
            self._deadlines.pop(name, None)
        if self.current is not None:
            self.outputs.append(out.Close(self.current.generation))
            self.traffic.lost()
            self._note(f"moved up from {self.current.transport} to {connection.transport}")
        else:
            self._upgrade_s = self._options.upgrade_after_s
            self._poll_wait_s = self._options.poll_wait_s  # what cut them may be on another network
        self.current = connection
        connection.online_at = self._now
        connection.ping_interval_s = result.ping or connection.ping_interval_s
        self.client_id = result.client
        self._ladder.opened(connection.rung)
        if connection.rung:
            self._plan_upgrade()
        self._may_stay(result)
        if connection.transport == "sse":
            self.outputs.append(out.Session(connection.generation, result.session, result.node))
        self._on("established", connection.transport)
        self.traffic.online(connection, result.subs)
        self._heard(connection)

    def _plan_upgrade(self) -> None:
        self._deadlines["upgrade"] = max(self._now + self._upgrade_s, self._not_before)
        self._upgrade_s = min(self._options.upgrade_cap_s, self._upgrade_s * 2)

    # -- the life of a connection ----------------------------------------------------------------------------

    def _reply(self, connection: Connection, reply: Reply) -> None:
        if reply.push is not None:
            if reply.push.disconnect is not None:
                self._lost(connection, reply.push.disconnect.code, reply.push.disconnect.reason)
            elif connection is self.current and reply.push.refresh is not None:
                self._may_stay(reply.push.refresh)
            elif connection is self.current:
                self.traffic.push(reply.push)
        elif not reply.id and not connection.is_pull:
            connection.had_heartbeat = True
            connection.queue.append(PONG)
            if connection is self.current:
                self.traffic.flush()
        elif reply.id in connection.waiting:
            method, of = connection.waiting.pop(reply.id)
            if method == "connect":
                self._connected(connection, reply)
            elif method == "refresh":
                self._refreshed(connection, reply)
            elif connection is self.current:
                self.traffic.reply(connection, reply.id, method, of, reply)

    def _refreshed(self, connection: Connection, reply: Reply) -> None:
        if reply.error is not None and reply.error.temporary:
            self._deadlines["refresh"] = self._now + max(
                self._options.later_s, retry_after_s(reply.error.message)
            )
        elif reply.error is not None:
            self._refused(connection, reply.error)
        elif reply.refresh is not None:
            self._may_stay(reply.refresh)

    def _may_stay(self, said: ConnectResult | RefreshResult) -> None:
        """The server has said for how long."""
        self._token_ttl_s = said.ttl if said.expires else None
        self._plan_refresh()

    def _plan_refresh(self) -> None:
        """Ask for a new token before this one is too old; those of a crowd that came together at different
        times."""
        self._deadlines.pop("refresh", None)
        if self._has_tokens and self._token_ttl_s is not None:
            self._deadlines["refresh"] = self._now + max(
                _SHORTEST_TTL_S, self._token_ttl_s * (7 + 2 * self._draw()) / 10
            )

    def _heard(self, connection: Connection) -> None:
        """Whatever it was, the other side is there."""
        connection.is_excused = False
        if connection is self.current:
            self._deadlines.pop("probe", None)
            if not connection.is_pull:
                self._deadlines["silence"] = (
                    self._now + connection.ping_interval_s + self._options.pong_timeout_s
                )

    def _woke(self) -> None:
        """Time has passed unseen, or the network is another: have the connection prove itself, or try at
        once."""
        if self.attempt is not None:
            self._is_hinted = self.current is None
            due = self._deadlines["open"]
            if due <= self._now:
                self._excuse(self.attempt, "open")
            else:  # on a network that is gone it is not worth more time than a new attempt
                self._deadlines["open"] = min(due, self._now + self._options.open_timeout_s)
        if self.current is not None:
            self._probe()
        elif self._now >= self._not_before:
            self._deadlines.pop("attempt", None)
            self._try()
        elif self.attempt is None and "attempt" in self._deadlines:
            self._deadlines["attempt"] = self._not_before

    def _probe(self) -> None:
        connection = self.current
        if connection is None:
            return
        due = self._deadlines.get("probe")
        if due is not None and (due > self._now or not self._excuse(connection, "probe")):
            return
        deadline = self._deadlines["probe"] = self._now + self._options.probe_timeout_s
        if connection.is_pull:
            self._poll(connection, wait_s=0)
        else:
            connection.queue.append(connection.command(self.traffic.next_id(), "ping", {}))
            self.traffic.flush()
        # What came in while we slept may wait to be read: the answer to the probe decides, not the silence
        # before it.
        self._deadlines["silence"] = max(deadline, self._deadlines.get("silence", deadline))
        if "sending" in self._deadlines:
            self._deadlines["sending"] = max(deadline, self._deadlines["sending"])

    def _excuse(self, connection: Connection, name: str) -> bool:
        """Its time was over while we slept, and the answer may wait to be read. That counts once: timers may
        always be late."""
        if connection.is_excused:
            return False
        connection.is_excused = True
        self._deadlines[name] = self._now + self._options.probe_timeout_s
        return True

    def _poll(self, connection: Connection, *, wait_s: float | None = None) -> None:
        """Ask for news of all channels. The answer is only held where each of them has been placed
        already."""
        if connection is self.current:
            self._deadlines.pop("poll", None)
        if wait_s is None:
            wait_s = (
                self._poll_wait_s if connection.transport == "longpoll" and self.traffic.is_settled else 0
            )
        connection.polled_at = self._now
        connection.wait_s = wait_s
        connection.had_news = connection.had_full_page = False
        connection.forget_poll()
        commands = self.traffic.subscribe_commands(connection, anew=True)
        if connection is self.attempt or self.traffic.has_server_side:
            commands.insert(0, self._connect(connection))
        if not commands:
            commands = [connection.command(self.traffic.next_id(), "ping", {})]
        if connection is self.current:
            self._deadlines["silence"] = self._now + wait_s + self._options.pong_timeout_s
        self.outputs.append(out.Poll(connection.generation, "\n".join(commands), wait_s))

    def _lost(
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
        """A connection is over; decide what is next."""
        self.outputs.append(out.Close(connection.generation))
        asks = asks or verdict(code)
        if asks == "token" and self._has_tokens:
            asks, self._token = "now", ""
        elif asks == "token":
            asks = "never"
        delay_s = max(after_s, retry_after_s(reason), self._options.later_s if asks == "later" else 0.0)
        self._not_before = max(self._not_before, self._now + delay_s)
        was_open = connection is self.current
        if was_open:
            self._forget_current(code, reason)
        else:
            self.attempt = None
            self._deadlines.pop("open", None)
            if self.current is not None:
                self._note(f"{connection.transport} does not work yet: {reason}")
                self._plan_upgrade()
                return
        if asks == "never":
            self._finish(code, reason, was_open=was_open)
            return
        is_abnormal = code == ABNORMAL
        before = self._ladder.transport
        steps_down = False
        if was_open:
            self._ladder.died(had_heartbeat=connection.had_heartbeat, is_abnormal=is_abnormal)
            if (
                connection.online_at is not None
                and self._now - connection.online_at >= self._options.stable_after_s
            ):
                self._backoff.reset()
        elif (
            is_abnormal and connection.rung == self._ladder.rung
        ):  # else it was to be a better one than that which is lost by now
            steps_down = self._ladder.failed(is_reachable=is_reachable, is_timeout=is_timeout)
        if self._ladder.transport != before:
            self._note(f"{before}: {reason}; trying {self._ladder.transport}")
        at_once = steps_down or self._is_hinted
        self._is_hinted = False
        delay_s = max(self._not_before - self._now, 0.0 if at_once else self._backoff.next_s())
        self._wait(code, reason, was_open=was_open, delay_s=delay_s)

    def _forget_current(self, code: int, reason: str) -> None:
        self.current = None
        for name in ("probe", "silence", "sending", "poll", "upgrade", "refresh"):
            self._deadlines.pop(name, None)
        if code == _TOO_LARGE:
            self.traffic.publishing.reject_largest(reason)
        self.traffic.lost()

    def _wait(self, code: int, reason: str, *, was_open: bool, delay_s: float) -> None:
        """Nothing is in use; the next attempt is then."""
        self._on("lost", reason)
        self.outputs.append(out.Closed(code, reason, was_open, delay_s if self.attempt is None else 0.0))
        if self.attempt is not None:  # a better transport is on its way already
            self._on("attempt", f"trying {self.attempt.transport}")
            return
        if self._is_network_down:
            self._on("network_down", "the system says that there is no network")
        self._deadlines["attempt"] = self._now + delay_s
        if not delay_s:
            self._try()

    def _finish(self, code: int, reason: str, *, was_open: bool) -> None:
        if self.state is State.CLOSED:
            return
        self.traffic.is_closed = True
        for connection in (self.current, self.attempt):
            if connection is not None:
                self.outputs.append(out.Close(connection.generation))
        self.current = self.attempt = None
        self.traffic.close(reason)
        self._on("closed", reason)
        self.outputs.append(out.Closed(code, reason, was_open, -1))
        self._deadlines.clear()

    # -- small things ----------------------------------------------------------------------------------------

    def _at(self, now: float) -> None:
        self._now = self.traffic.now = now

    def _known(self, generation: int) -> Connection | None:
        for connection in (self.current, self.attempt):
            if connection is not None and connection.generation == generation:
                return connection
        return None

    def _on(self, event: Event, reason: str) -> None:
        state = TRANSITIONS[self.state, event]
        if state is not self.state or event == "established":
            self.state = state
            self.outputs.append(out.StateChanged(state.value, reason))

    def _note(self, text: str) -> None:
        self.outputs.append(out.Note(text))


_DEADLINES: Final[tuple[tuple[str, Callable[[Machine], None]], ...]] = (
    ("token", lambda self: self.no_token("the application gave none in time", self._now)),
    ("open", Machine._due_open),
    ("probe", lambda self: self._dead(f"no answer to a probe within {self._options.probe_timeout_s:g} s")),
    ("silence", lambda self: self._dead("nothing was heard in time")),
    ("sending", lambda self: self._dead("a request was not answered in time")),
    ("attempt", Machine._try),
    ("refresh", Machine._ask_token),
    ("poll", Machine._due_poll),
    ("resend", lambda self: self.traffic.resend()),
    ("resubscribe", Machine._due_resubscribe),
    ("outbox", lambda self: self.traffic.publishing.expire(self._now)),
    ("request", lambda self: self.traffic.requests.expire(self._now)),
    ("upgrade", Machine._due_upgrade),
    ("tick", Machine._due_tick),
)
"""In the order in which those that have come are dealt with."""
