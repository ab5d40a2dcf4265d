"""Limits of number and rate: connections and publishes."""

import math

from heartwire.core.limits import TokenBucket, Turns
from heartwire.errors import LimitExceeded, Refused
from heartwire.hub.options import HubOptions

__all__ = ["Admission", "Rates", "take_token", "with_retry_after"]


class Admission:
    """Limits of connections: how many on the node and from one address, and how fast they come.

    ``count``: how many there are.
    """

    def __init__(self, options: HubOptions) -> None:
        self._limit = options.max_connections
        self._limit_per_address = options.max_connections_per_address
        self._by_address: dict[str, int] = {}
        self._rate_per_s, self._burst = options.connects_per_s, float(options.connects_burst)
        self.count = 0
        self.divide_rate(1)

    def divide_rate(self, workers: int) -> None:
        """Admit a part of the rate, as one of so many processes that admit it together. Call it at the
        start."""
        self._rate_per_s /= workers
        self._burst = max(1.0, self._burst / workers)
        self._turns = Turns(self._rate_per_s, self._burst, 0) if self._rate_per_s else None

    @property
    def window_s(self) -> float:
        """How long it takes to let in as many connections as there are; 0 without a rate."""
        return self.count / self._rate_per_s if self._rate_per_s else 0.0

    def wait_s(self, now: float) -> float:
        """Seconds until a client that comes now may connect; 0: now, and that is counted as a connect."""
        return self._turns.next_turn_s(now) if self._turns is not None else 0.0

    def check_rate(self, now: float) -> None:
        """`wait_s` as a refusal: raises `Refused` (``too_many_connects``)."""
        wait_s = self.wait_s(now)
        if wait_s:
            message = f"connects come faster than {self._rate_per_s:g} a second (connects_per_s)"
            raise Refused("too_many_connects", with_retry_after(message, wait_s), after_s=wait_s)

    def add(self, address: str) -> None:
        """Count one more. Raises `LimitExceeded` (``node_full``, ``too_many_connections``)."""
        here, limit = self.count + 1, self._limit
        if here > limit:
            raise LimitExceeded("node_full", "connections on this node", here, limit, "max_connections")
        mine, limit = self._by_address.get(address, 0) + 1, self._limit_per_address
        if limit and mine > limit:
            what, setting = f"connections from {address}", "max_connections_per_address"
            raise LimitExceeded("too_many_connections", what, mine, limit, setting)
        self.count = here
        self._by_address[address] = mine

    def remove(self, address: str, count: int = 1) -> None:
        """Count so many less; for each `add` that returned, once."""
        self.count -= count
        self._by_address[address] -= count
        if not self._by_address[address]:
            del self._by_address[address]


def with_retry_after(reason: str, after_s: float) -> str:
    """A reason to end a connection with the time to come back, for clients that read it; 0: without one."""
    return f"{reason}; retry_after_ms={math.ceil(after_s * 1000)}" if after_s else reason


class Rates:
    """Token buckets for publishes: one a connection, and one an address for those by POST."""

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

    def sweep(self, now: float) -> None:
        """Forget the buckets that are full again."""
        full_after_s = self._burst / self._rate_per_s if self._rate_per_s else 0
        buckets = self._buckets.items()
        self._buckets = {address: one for address, one in buckets if now - one.taken_at < full_after_s}


def take_token(bucket: TokenBucket, now: float) -> None:
    """Take a token. Raises `Refused` (``too_many_requests``) with the time of the next."""
    if not bucket.take(now):
        rate = f"{bucket.rate_per_s:g} a second, {bucket.burst:g} at once"
        message = f"messages come faster than {rate} (publish_rate_per_s, publish_burst)"
        raise Refused("too_many_requests", message, after_s=bucket.wait_s)
