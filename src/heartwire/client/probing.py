"""Whether a connection lives: the silence it is allowed, and probes after wake-ups. Pure."""

from typing import Literal

from heartwire.client.connection import Connection
from heartwire.client.context import Context
from heartwire.client.polling import Polling
from heartwire.client.traffic import Traffic

__all__ = ["Probing"]


class Probing:
    """The proof of life of one client's connections."""

    def __init__(self, context: Context, traffic: Traffic, polling: Polling) -> None:
        self._context = context
        self._options, self._deadlines = context.options, context.deadlines
        self._traffic = traffic
        self._polling = polling

    def heard(self, connection: Connection) -> None:
        """Note that something came in: the server is there."""
        connection.is_excused = False
        if connection.online_at is not None:
            self._deadlines.pop("probe", None)
            if not connection.is_pull:
                due = self._context.now + connection.ping_interval_s + self._options.pong_timeout_s
                self._deadlines["silence"] = due

    def probe(self, connection: Connection) -> None:
        """Have the connection in use prove itself within ``probe_timeout_s``."""
        due = self._deadlines.get("probe")
        if due is not None and (due > self._context.now or not self.excuse(connection, "probe")):
            return
        deadline = self._deadlines["probe"] = self._context.now + self._options.probe_timeout_s
        if connection.is_pull:
            self._polling.poll(connection, wait_s=0)
        else:
            connection.queue.append(connection.command(self._traffic.next_id(), "ping", {}))
            self._traffic.flush()
        # What came in while we slept may wait to be read: the answer to the probe decides, not the silence
        # before it.
        self._deadlines["silence"] = max(deadline, self._deadlines.get("silence", deadline))
        if "sending" in self._deadlines:
            self._deadlines["sending"] = max(deadline, self._deadlines["sending"])

    def excuse(self, connection: Connection, deadline: Literal["open", "probe"]) -> bool:
        """Give a connection whose time ran out while we slept ``probe_timeout_s`` more: its answer may wait
        to be read. False where it had that already since it was heard last: timers may always be late."""
        if connection.is_excused:
            return False
        connection.is_excused = True
        self._deadlines[deadline] = self._context.now + self._options.probe_timeout_s
        return True
