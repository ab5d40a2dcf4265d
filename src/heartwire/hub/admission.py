"""How many may come in, and how fast: connections of the node, of one address, in a second; publishes."""

import math
import random

from heartwire.core.limits import TokenBucket, Turns
from heartwire.errors import LimitExceeded, Refused
from heartwire.hub.options import HubOptions

__all__ = ["Admission", "Rates", "drain_reason", "take_token", "with_retry_after"]


class Admission:
    """Counts WebSockets, streams and held polls, on the node and by address; and lets the first two in by
    turns."""

    def __init__(self, options: HubOptions) -> None:
        self._limit = options.max_connections
        self._limit_per_address = options.max_connections_per_address
        self._by_address: dict[str, int] = {}
        self._rate_per_s = options.connects_per_s
        self._turns = Turns(self._rate_per_s, options.connects_burst, 0) if self._rate_per_s else None
        self.count = 0

    @property
    def window_s(self) -> float:
        """Over how long those who are here now would be let in, if they came anew; 0 where there are no
        turns."""
        return self.count / self._rate_per_s if self._rate_per_s else 0.0

    def turn_s(self, now: float) -> float:
        """One wants to come in: 0 where they may, else the seconds after which it is their turn."""
        return self._turns.next_turn_s(now) if self._turns is not None else 0.0

    def admit(self, now: float) -> None:
        """The same as a refusal: raises `Refused` (``too_many_connects``)."""
        wait_s = self.turn_s(now)
        if wait_s:
            message = f"connects come faster than {self._rate_per_s:g} a second (connects_per_s)"
            raise Refused("too_many_connects", with_retry_after(message, wait_s), after_s=wait_s)

    def enter(self, address: str) -> None:
        """Count one more. Raises `LimitExceeded` (``node_full``, ``too_many_connections``)."""
        if self.count >= self._limit:
            raise LimitExceeded(
                "node_full", "connections on this node", self.count + 1, self._limit, "max_connections"
            )
        mine = self._by_address.get(address, 0) + 1
        if self._limit_per_address and mine > self._limit_per_address:
            name = "max_connections_per_address"
            raise LimitExceeded(
                "too_many_connections", f"connections from {address}", mine, self._limit_per_address, name
            )
        self.count += 1
        self._by_address[address] = mine

    def leave(self, address: str) -> None:
        """Count one less; for each `enter` that returned, once."""
        self.count -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


def with_retry_after(reason: str, after_s: float) -> str:
    """A reason to end a connection, and when to come back, for clients that read it."""
    return f"{reason}; retry_after_ms={math.ceil(after_s * 1000)}"


def drain_reason(reason: str, window_s: float) -> str:
    """The same with a time drawn from a window, for those who are sent away together; without one where the
    window is 0."""
    return with_retry_after(reason, random.uniform(0, window_s)) if window_s else reason


class Rates:
    """Token buckets of those who publish by POST, by address; those that are full again are forgotten."""

    def __init__(self, options: HubOptions) -> None:
        self._rate_per_s, self._burst = options.publish_rate_per_s, options.publish_burst
        self._buckets: dict[str, TokenBucket] = {}

    def bucket(self, now: float) -> TokenBucket | None:
        """A new bucket for one connection; ``None`` where there is no limit."""
        return TokenBucket(self._rate_per_s, self._burst, now) if self._rate_per_s else None

    def of(self, address: str, now: float) -> TokenBucket | None:
        """The bucket of an address; ``None`` where there is no limit."""
        bucket = self._buckets.get(address)
        if bucket is None and self._rate_per_s:
            bucket = self._buckets[address] = TokenBucket(self._rate_per_s, self._burst, now)
        return bucket

    def check(self, address: str, now: float) -> None:
        """Take one token of an address. Raises `Refused` (``too_many_requests``)."""
        bucket = self.of(address, now)
        if bucket is not None:
            take_token(bucket, now)

    def sweep(self, now: float) -> None:
        """Forget the buckets that are full again."""
        full_after_s = self._burst / self._rate_per_s if self._rate_per_s else 0
        self._buckets = {
            address: bucket
            for address, bucket in self._buckets.items()
            if now - bucket.taken_at < full_after_s
        }


def take_token(bucket: TokenBucket, now: float) -> None:
    """Take a token. Raises `Refused` (``too_many_requests``) that says when the next one comes."""
    if not bucket.take(now):
        limit = (
            f"{bucket.rate_per_s:g} a second, {bucket.burst:g} at once (publish_rate_per_s, publish_burst)"
        )
        raise Refused("too_many_requests", f"messages come faster than {limit}", after_s=bucket.wait_s)
