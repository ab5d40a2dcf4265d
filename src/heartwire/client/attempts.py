"""When a client makes its next attempt, and over which transport. Pure.

The ladder chooses the transport. The moment depends on full-jitter backoff, on when the server wants its
client back, and on one bucket for all attempts.
"""

from typing import Literal

from heartwire.client.connection import Connection
from heartwire.client.context import Context
from heartwire.client.ladder import Ladder
from heartwire.client.outputs import Note
from heartwire.client.retry import Backoff, Bucket
from heartwire.client.states import ABNORMAL

__all__ = ["Attempts"]


class Attempts:
    """The attempts of one client. The server wants none before ``not_before``."""

    def __init__(self, context: Context) -> None:
        options = context.options
        self.ladder = Ladder(options.transports, options.first_transport)
        self.not_before = context.now
        self._context = context
        self._options, self._deadlines = options, context.deadlines
        self._bucket = Bucket(options.attempt_rate_per_s, options.attempt_burst, context.now)
        self._backoff = Backoff(base_s=options.backoff_base_s, cap_s=options.backoff_cap_s, draw=context.draw)
        self._upgrade_s = options.upgrade_after_s

    def take(self, deadline: Literal["attempt", "upgrade"]) -> bool:
        """Take an attempt out of the bucket. False where there is none yet: the deadline says when."""
        wait_s = self._bucket.take(self._context.now)
        if wait_s:
            self._deadlines[deadline] = self._context.now + wait_s
        else:
            self._deadlines.pop(deadline, None)
        return not wait_s

    def open_timeout_s(self) -> float:
        """Return how long the next attempt may take: longer each time the whole ladder has failed."""
        options = self._options
        return min(options.open_timeout_cap_s, options.open_timeout_s * 2.0 ** min(self.ladder.rounds, 60))

    def delay_s(self, *, at_once: bool = False) -> float:
        """Return the seconds to the next attempt; counts a failure unless it may be made at once."""
        return max(self.not_before - self._context.now, 0.0 if at_once else self._backoff.next_s())

    def hold_off(self, least_s: float) -> None:
        """Make no attempt for so long: the server wants its client back later."""
        self.not_before = max(self.not_before, self._context.now + least_s)

    def established(self, connection: Connection, *, is_upgrade: bool) -> None:
        """Note that an attempt was answered, and plan an upgrade where there is a better transport."""
        if not is_upgrade:
            self._upgrade_s = self._options.upgrade_after_s
        if self.ladder.opened(connection.rung):
            self._deadlines["upgrade"] = max(self._context.now, self.not_before)
        elif connection.rung:
            self.plan_upgrade()

    def plan_upgrade(self) -> None:
        """Plan to try a better transport, after twice as long each time."""
        self._deadlines["upgrade"] = max(self._context.now + self._upgrade_s, self.not_before)
        self._upgrade_s = min(self._options.upgrade_cap_s, self._upgrade_s * 2)

    def blame(
        self, connection: Connection, code: int, reason: str, *, is_reachable: bool, is_timeout: bool
    ) -> bool:
        """Count a loss against the transport. Return whether another one is to be tried at once."""
        ladder, is_abnormal = self.ladder, code == ABNORMAL
        before = ladder.transport
        steps_down = False
        if connection.online_at is not None:
            ladder.died(had_heartbeat=connection.had_heartbeat, is_abnormal=is_abnormal)
            if self._context.now - connection.online_at >= self._options.stable_after_s:
                self._backoff.reset()
        elif is_abnormal and connection.rung == ladder.rung:
            # Else it was to be an upgrade from a connection that is lost by now.
            steps_down = ladder.failed(is_reachable=is_reachable, is_timeout=is_timeout)
        if ladder.transport != before:
            self._context.outputs.append(Note("stepped_down", before, reason, ladder.transport))
        return steps_down
