"""When a client polls (``longpoll``, ``poll``), and how long the server may hold the answer. Pure."""

from collections.abc import Callable
from typing import Final

from heartwire.client import outputs as out
from heartwire.client.connection import Connection
from heartwire.client.context import Context
from heartwire.client.traffic import Traffic

__all__ = ["Polling"]

_CUT_AFTER_S: Final = 2
"""A long poll that fails without an answer, but not at once, was cut by something in between."""

_SHORTEST_WAIT_S: Final = 1.0
_QUICK_S: Final = 0.5


class Polling:
    """The polls of one client; ``connect`` makes the `connect` command of a connection."""

    def __init__(self, context: Context, traffic: Traffic, connect: Callable[[Connection], str]) -> None:
        self._context = context
        self._options, self._outputs, self._deadlines = context.options, context.outputs, context.deadlines
        self._traffic = traffic
        self._connect = connect
        self._wait_s = context.options.poll_wait_s

    def reset(self) -> None:
        """Allow long waits again: what cut them may be on another network."""
        self._wait_s = self._options.poll_wait_s

    def poll(self, connection: Connection, *, wait_s: float | None = None) -> None:
        """Ask for news of all channels. The server holds its answer only once each of them is placed."""
        is_online = connection.online_at is not None
        if is_online:
            self._deadlines.pop("poll", None)
        if wait_s is None:
            may_wait = connection.transport == "longpoll" and self._traffic.is_settled
            wait_s = self._wait_s if may_wait else 0
        connection.polled_at = self._context.now
        connection.wait_s = wait_s
        connection.had_news = connection.had_full_page = False
        connection.forget_poll()
        commands = self._traffic.subscribe_commands(connection, anew=True)
        if not is_online or self._traffic.has_server_side:
            commands.insert(0, self._connect(connection))
        if not commands:
            commands = [connection.command(self._traffic.next_id(), "ping", {})]
        if is_online:
            self._deadlines["silence"] = self._context.now + wait_s + self._options.pong_timeout_s
        self._outputs.append(out.Poll(connection.generation, "\n".join(commands), wait_s))

    def answered(self, connection: Connection) -> None:
        """Plan the next poll: at once, or after ``poll_interval_s``."""
        if connection.cut_after_s:
            self._wait_s = max(_SHORTEST_WAIT_S, connection.cut_after_s * 0.6)
            connection.cut_after_s = 0
            reason = f"asking for {self._wait_s:.1f} s from now on"
            self._outputs.append(out.Note("polls_cut", connection.transport, reason))
        self._deadlines.pop("silence", None)
        if connection.wait_s > 0 or connection.transport == "poll":
            connection.had_heartbeat = True
        if self._is_idle(connection):
            self._deadlines.setdefault("poll", self._context.now + self._options.poll_interval_s)
        elif "poll" not in self._deadlines:
            self.poll(connection)

    def cut(self, connection: Connection) -> bool:
        """Whether a failed poll was cut in between; then poll again, without a wait, before it is lost."""
        took_s = self._context.now - connection.polled_at
        if connection.online_at is None or connection.wait_s <= _SHORTEST_WAIT_S or took_s < _CUT_AFTER_S:
            return False
        connection.cut_after_s = took_s
        self.poll(connection, wait_s=0)
        return True

    def _is_idle(self, connection: Connection) -> bool:
        if connection.transport == "poll":
            return not (connection.had_full_page and connection.had_news)
        is_quick = self._context.now - connection.polled_at < _QUICK_S
        may_be_held = connection.wait_s > 0 or not self._traffic.is_settled
        return is_quick and may_be_held and not connection.had_news
