"""What is compared, and how: the transports, the options of a run, and the settings that are shortened so
that it ends."""

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from heartwire.client.options import Options, Transport
from heartwire.errors import ConfigError

__all__ = ["KINDS", "Kind", "Plan", "check_plan", "message", "options_of", "read_message"]

DEFAULT_PING_INTERVAL_S: Final = 25.0
DEFAULT_PONG_TIMEOUT_S: Final = 10.0
DEFAULT_POLL_WAIT_S: Final = 25.0

SHORT_PING_INTERVAL_S: Final = 2.0
SHORT_PONG_TIMEOUT_S: Final = 1.0
SHORT_POLL_WAIT_S: Final = 2.0
"""Of the idle connections and of those that fail: ten heartbeats in 20 s, and a dead link is noticed in 3 s
instead of 35."""

DEFAULT_BACKOFF_CAP_S: Final = 20.0
SHORT_BACKOFF_CAP_S: Final = 4.0
"""Of those that fail: by default one that has failed often may wait for 20 s, and the run would have to wait
for it."""

LATE_MS: Final = 1000.0
"""A message is late from here on: what a person who waits for an answer calls late."""

_MAX_RATE_PER_S: Final = 200.0
_MAX_REMOTE_RATE_PER_S: Final = 20.0
_MAX_SUBSCRIBERS: Final = 100
_MAX_REMOTE_SUBSCRIBERS: Final = 10
_MAX_DELIVERIES_PER_S: Final = 200.0
"""For each transport. All clients and proxies share one process: above that it would measure itself."""
_MIN_SIZE_BYTES: Final = 48
_MAX_SIZE_BYTES: Final = 64 * 1024


class Kind(NamedTuple):
    """One column of the comparison. ``transport`` is the client's; ``None``: the bare WebSocket."""

    name: str
    label: str
    transport: Transport | None
    cycle_s: float
    """How often it says something when there is nothing to say, with the default settings."""


KINDS: Final[tuple[Kind, ...]] = (
    Kind("poll-1s", "poll, every 1 s", "poll", 1),
    Kind("poll-5s", "poll, every 5 s", "poll", 5),
    # The server shortens each hold at random by up to a tenth, so that polls never line up.
    Kind("longpoll", "long poll", "longpoll", DEFAULT_POLL_WAIT_S * 0.95),
    Kind("sse", "SSE", "sse", DEFAULT_PING_INTERVAL_S),
    Kind("websocket", "WebSocket", "websocket", DEFAULT_PING_INTERVAL_S),
    Kind("bare", "bare WebSocket", None, DEFAULT_PING_INTERVAL_S),
)


class Plan(NamedTuple):
    """The options of a run.

    Attributes:
        url: the server; "": servers of its own, one for each transport.
        seconds: how long messages are sent in the steady run.
        rate_per_s, size_bytes: messages a second, and how long each is as JSON; to each transport.
        subscribers: to each transport.
        cut_s: how long the link fails in the two runs in which it does; 0: these are left out.
        before_s, after_s: how long messages are sent before and after that.
        ping_interval_s, pong_timeout_s, poll_wait_s: of idle connections and of those that fail, on servers
            of its own.
        token: who we are, where the server asks.
    """

    url: str = ""
    seconds: float = 20
    rate_per_s: float = 10
    size_bytes: int = 64
    subscribers: int = 4
    cut_s: float = 5
    before_s: float = 2
    after_s: float = 5
    ping_interval_s: float = SHORT_PING_INTERVAL_S
    pong_timeout_s: float = SHORT_PONG_TIMEOUT_S
    poll_wait_s: float = SHORT_POLL_WAIT_S
    token: str = ""

    @property
    def is_tls(self) -> bool:
        """Whether bytes can't be told apart."""
        return urlsplit(self.url).scheme in ("https", "wss")

    @property
    def fault_seconds(self) -> float:
        """How long messages are sent in the runs in which the link fails."""
        return self.before_s + self.cut_s + self.after_s


def check_plan(plan: Plan) -> None:
    """Raise `ConfigError` for the first value that can't be: it names the option, the value and what may
    stand there."""
    if plan.url:
        parts = urlsplit(plan.url)
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
            raise ConfigError(
                "URL",
                plan.url,
                "as in http://127.0.0.1:8000; or leave it out, and servers are started for it",
            )
    own = not plan.url
    where = "" if own else " against a URL, which may be somebody else's"
    _between(
        "--rate",
        plan.rate_per_s,
        0.1,
        _MAX_RATE_PER_S if own else _MAX_REMOTE_RATE_PER_S,
        "messages a second",
        where,
    )
    subscribers = _MAX_SUBSCRIBERS if own else _MAX_REMOTE_SUBSCRIBERS
    _between("--subscribers", plan.subscribers, 1, subscribers, "for each transport", where)
    _between("--size", plan.size_bytes, _MIN_SIZE_BYTES, _MAX_SIZE_BYTES, "bytes")
    _between("--seconds", plan.seconds, 1, 600, "seconds")
    _between("--cut", plan.cut_s, 0, 60, "seconds; 0 leaves these runs out")
    if plan.rate_per_s * plan.subscribers > _MAX_DELIVERIES_PER_S:
        most = (
            f"with {plan.subscribers} subscribers at most {_MAX_DELIVERIES_PER_S / plan.subscribers:g}: above"
        )
        raise ConfigError(
            "--rate",
            plan.rate_per_s,
            f"{most} {_MAX_DELIVERIES_PER_S:g} deliveries a second it measures itself",
        )


def _between(name: str, value: float, least: float, most: float, what: str, where: str = "") -> None:
    if not least <= value <= most:
        raise ConfigError(name, value, f"{least:g} to {most:g} {what}{where}")


def options_of(kind: Kind, plan: Plan, *, is_short: bool) -> Options:
    """A client that uses one transport; ``is_short``: with the settings of runs in which the link fails."""
    assert kind.transport is not None
    options = Options(transports=(kind.transport,))
    if kind.transport == "poll":
        options = options._replace(poll_interval_s=kind.cycle_s)
    if is_short:
        options = options._replace(
            ping_interval_s=plan.ping_interval_s,
            pong_timeout_s=plan.pong_timeout_s,
            poll_wait_s=plan.poll_wait_s,
            backoff_cap_s=SHORT_BACKOFF_CAP_S,
        )
    return options


def message(number: int, sent_us: int, size_bytes: int) -> dict[str, object]:
    """A message that is ``size_bytes`` long as JSON, and says which it is and when it was sent."""
    bare = len(f'{{"n":{number},"t":{sent_us},"p":""}}')
    return {"n": number, "t": sent_us, "p": "x" * max(0, size_bytes - bare)}


_NUMBER: Final = re.compile(r'"n":(\d+),"t":(\d+)')


def read_message(text: str) -> tuple[int, int]:
    """The number and the time of a message, from its JSON. Raises ``ValueError`` for what is none of ours."""
    found = _NUMBER.search(text)
    if found is None:
        raise ValueError(f"{text[:80]!r} is no message of this comparison")
    return int(found[1]), int(found[2])
