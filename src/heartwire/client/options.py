"""The options of a client, with defaults. `web/heartwire.js` has the same ones; a test compares them."""

from typing import Final, Literal, NamedTuple, get_args

from heartwire.errors import ConfigError

__all__ = ["TRANSPORTS", "Options", "Transport", "check_options"]

Transport = Literal["websocket", "sse", "longpoll", "poll"]
TRANSPORTS: Final[tuple[Transport, ...]] = get_args(Transport)
"""The ladder, best first."""


class Options(NamedTuple):
    """The options of a client, in seconds and bytes as the names say. Every number is over 0.

    Attributes:
        transports: the ladder, best first; one name fixes the transport.
        first_transport: the rung to begin with, such as the one that worked last time; ``None``: the top.
        ping_interval_s: how often the server is expected to send something, until it names its own interval.
        pong_timeout_s: a connection silent for the interval and this much more is dead.
        probe_timeout_s: after a wake-up or a network change the server has this long to answer.
        tick_s: how often the clocks are compared; a jump between two looks is a wake-up.
        open_timeout_s: from the first packet to the answer of `connect`; doubled each time the whole ladder
            has failed.
        open_timeout_cap_s: at most this.
        backoff_base_s, backoff_cap_s: the n-th wait in a row is drawn from 0 to base doubled n times, at most
            the cap.
        later_s: the least wait after a server said *later*.
        stable_after_s: a connection that lived this long resets the count of failures.
        attempt_burst, attempt_rate_per_s: one token bucket for all attempts, whatever triggers them.
        upgrade_after_s, upgrade_cap_s: on a lower rung a better one is tried after this long, then after
            twice as long, to the cap.
        poll_interval_s: between two polls on ``poll``.
        poll_wait_s: how long the server may hold a long poll; at most 55.
        max_pending_items, max_pending_bytes: bounds of pending publishes, and of pending requests; over them
            one more is refused at once.
        max_pending_age_s: a publish not answered within this is given up. Less than the server's
            `idempotency_window_s`.
        max_in_flight: publishes in flight at a time.
        max_message_bytes: a larger message is refused at once.
        max_queue_items: publications that wait for a subscription's iterator; over that the rest is fetched
            later, from the server.
        request_timeout_s: for `presence`, `history` and `rpc`.
        close_timeout_s: how long closing waits for pending publishes.
    """

    transports: tuple[Transport, ...] = TRANSPORTS
    first_transport: Transport | None = None
    ping_interval_s: float = 25
    pong_timeout_s: float = 10
    probe_timeout_s: float = 3
    tick_s: float = 1
    open_timeout_s: float = 4
    open_timeout_cap_s: float = 20
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 20
    later_s: float = 5
    stable_after_s: float = 10
    attempt_burst: float = 5
    attempt_rate_per_s: float = 0.5
    upgrade_after_s: float = 10
    upgrade_cap_s: float = 600
    poll_interval_s: float = 1
    poll_wait_s: float = 25
    max_pending_items: int = 1000
    max_pending_bytes: int = 4 * 1024 * 1024
    max_pending_age_s: float = 120
    max_in_flight: int = 64
    max_message_bytes: int = 1024 * 1024
    max_queue_items: int = 1000
    request_timeout_s: float = 10
    close_timeout_s: float = 5


def check_options(options: Options) -> None:
    """Raise `ConfigError` for the first invalid value, with the option, the value and what is allowed."""
    known = f"some of {', '.join(TRANSPORTS)}"
    if not options.transports or any(name not in TRANSPORTS for name in options.transports):
        raise ConfigError("transports", options.transports, known)
    if options.first_transport is not None and options.first_transport not in options.transports:
        raise ConfigError("first_transport", options.first_transport, "one of `transports`")
    for name, value in options._asdict().items():
        is_number = name not in ("transports", "first_transport")
        if is_number and not (isinstance(value, int | float) and value > 0):
            raise ConfigError(name, value, "a number over 0")
    if options.poll_wait_s > 55:
        raise ConfigError("poll_wait_s", options.poll_wait_s, "at most 55: the server answers by then")
