"""When a client makes its next attempt, and over which transport. Pure.

The ladder chooses the transport. The moment depends on full-jitter backoff, on when the server wants its
client back, and on one bucket for all attempts.
"""

from collections.abc import Callable
from typing import Literal

from heartwire.client.connection import Connection
from heartwire.client.ladder import Ladder
from heartwire.client.options import Options
from heartwire.client.outputs import Note, Output
from heartwire.client.retry import Backoff, Bucket
from heartwire.client.states import ABNORMAL, Deadlines

__all__ = ["Attempts"]


class Attempts:
    """The attempts of one client.

    Args:
        options: the ladder, and how long and how often.
        outputs, deadlines: the machine's.
        draw: chance, from 0 to 1.
        now: monotonic seconds.

    Attributes:
        ladder: which transport is next.
        not_before: the server wants no attempt before.
    """

    def __init__(
        self,
        options: Options,
        outputs: list[Output],
        deadlines: Deadlines,
        *,
        draw: Callable[[], float],
        now: float,
    ) -> None:
        self.ladder = Ladder(options.transports, options.first_transport)
        self.not_before = now
        self._options = options
        self._outputs = outputs
        self._deadlines = deadlines
        self._bucket = Bucket(options.attempt_rate_per_s, options.attempt_burst, now)
        self._backoff = Backoff(base_s=options.backoff_base_s, cap_s=options.backoff_cap_s, draw=draw)
        self._upgrade_s = options.upgrade_after_s

    def take(self, now: float, deadline: Literal["attempt", "upgrade"]) -> bool:
        """Take an attempt out of the bucket. False where there is none yet: the deadline says when."""
        wait_s = self._bucket.take(now)
        if wait_s:
            self._deadlines[deadline] = now + wait_s
        else:
            self._deadlines.pop(deadline, None)
        return not wait_s

    def open_timeout_s(self) -> float:
        """Return how long the next attempt may take: longer each time the whole ladder has failed."""
        options = self._options
        return min(options.open_timeout_cap_s, options.open_timeout_s * 2.0 ** min(self.ladder.rounds, 60))

    def delay_s(self, now: float, *, at_once: bool = False) -> float:
        """Return the seconds to the next attempt; counts a failure unless it may be made at once."""
        return max(self.not_before - now, 0.0 if at_once else self._backoff.next_s())

    def hold_off(self, until: float) -> None:
        """Make no attempt before: the server wants its client back later."""
        self.not_before = max(self.not_before, until)

    def established(self, connection: Connection, now: float, *, is_upgrade: bool) -> None:
        """Note that an attempt was answered, and plan an upgrade where there is a better transport."""
        if not is_upgrade:
            self._upgrade_s = self._options.upgrade_after_s
        self.ladder.opened(connection.rung)
        if connection.rung:
            self.plan_upgrade(now)

    def plan_upgrade(self, now: float) -> None:
        """Plan to try a better transport, after twice as long each time."""
        self._deadlines["upgrade"] = max(now + self._upgrade_s, self.not_before)
        self._upgrade_s = min(self._options.upgrade_cap_s, self._upgrade_s * 2)

    def blame(
        self,
        connection: Connection,
        code: int,
        reason: str,
        now: float,
        *,
        is_reachable: bool,
        is_timeout: bool,
    ) -> bool:
        """Count a loss against the transport. Return whether another one is to be tried at once."""
        ladder, is_abnormal = self.ladder, code == ABNORMAL
        before = ladder.transport
        steps_down = False
        if connection.online_at is not None:
            ladder.died(had_heartbeat=connection.had_heartbeat, is_abnormal=is_abnormal)
            if now - connection.online_at >= self._options.stable_after_s:
                self._backoff.reset()
        elif is_abnormal and connection.rung == ladder.rung:
            # Else it was to be an upgrade from a connection that is lost by now.
            steps_down = ladder.failed(is_reachable=is_reachable, is_timeout=is_timeout)
        if ladder.transport != before:
            self._outputs.append(Note("stepped_down", before, reason, ladder.transport))
        return steps_down
