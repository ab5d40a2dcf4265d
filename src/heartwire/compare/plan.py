"""The plan of a comparison: transports, options, and the settings that are shortened to end it soon."""

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
"""For idle and failing connections: ten heartbeats in 20 s; a dead link is noticed in 3 s, not 35."""

DEFAULT_BACKOFF_CAP_S: Final = 20.0
SHORT_BACKOFF_CAP_S: Final = 4.0
"""For failing connections: by default one may wait for 20 s, and the run would wait for it."""

BARE_RETRY_S: Final = 1.0
"""The bare WebSocket connects again about so long after a close, as most hand-written clients do."""

LATE_MS: Final = 1000.0
"""From here on a message is late: a person who waits for an answer notices it."""

_MAX_RATE_PER_S: Final = 200.0
_MAX_REMOTE_RATE_PER_S: Final = 20.0
_MAX_SUBSCRIBERS: Final = 100
_MAX_REMOTE_SUBSCRIBERS: Final = 10
_MAX_DELIVERIES_PER_S: Final = 200.0
"""For each transport. All clients and proxies share one process: above this it would measure itself."""
_MIN_SIZE_BYTES: Final = 48
_MAX_SIZE_BYTES: Final = 64 * 1024


class Kind(NamedTuple):
    """One transport of the comparison. ``transport`` is the client's; ``None``: the bare WebSocket."""

    name: str
    label: str
    transport: Transport | None
    cycle_s: float
    """The period of its exchanges on an idle connection, with the default settings."""


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
        rate_per_s, size_bytes: messages a second to each transport, and the length of each as JSON.
        subscribers: of each transport.
        cut_s: how long the link fails in the failing runs; 0 leaves these out.
        before_s, after_s: how long messages are sent before and after that.
        ping_interval_s, pong_timeout_s, poll_wait_s: of idle and failing connections, on servers of its own.
        token: for a server that asks for one.
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
        """Whether TLS hides the bytes."""
        return urlsplit(self.url).scheme in ("https", "wss")

    @property
    def fault_seconds(self) -> float:
        """How long messages are sent in a failing run."""
        return self.before_s + self.cut_s + self.after_s


def check_plan(plan: Plan) -> None:
    """Raise `ConfigError` for the first wrong value; it names the option, the value and the limits."""
    parts = urlsplit(plan.url)
    if plan.url and (parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname):
        fix = "as in http://127.0.0.1:8000; or leave it out, and servers are started for it"
        raise ConfigError("URL", plan.url, fix)
    where = " against a URL, which may be somebody else's" if plan.url else ""
    rate_per_s = _MAX_REMOTE_RATE_PER_S if plan.url else _MAX_RATE_PER_S
    subscribers = _MAX_REMOTE_SUBSCRIBERS if plan.url else _MAX_SUBSCRIBERS
    _between("--rate", plan.rate_per_s, 0.1, rate_per_s, "messages a second", where)
    _between("--subscribers", plan.subscribers, 1, subscribers, "for each transport", where)
    _between("--size", plan.size_bytes, _MIN_SIZE_BYTES, _MAX_SIZE_BYTES, "bytes")
    _between("--seconds", plan.seconds, 1, 600, "seconds")
    _between("--cut", plan.cut_s, 0, 60, "seconds; 0 leaves these runs out")
    if plan.rate_per_s * plan.subscribers > _MAX_DELIVERIES_PER_S:
        most = _MAX_DELIVERIES_PER_S / plan.subscribers
        fix = f"with {plan.subscribers} subscribers at most {most:g}"
        why = f"above {_MAX_DELIVERIES_PER_S:g} deliveries a second it measures itself"
        raise ConfigError("--rate", plan.rate_per_s, f"{fix}: {why}")


def _between(name: str, value: float, least: float, most: float, what: str, where: str = "") -> None:
    if not least <= value <= most:
        raise ConfigError(name, value, f"{least:g} to {most:g} {what}{where}")


def options_of(kind: Kind, plan: Plan, *, is_short: bool) -> Options:
    """The options of a client with one transport; ``is_short``: with the shortened settings."""
    assert kind.transport is not None
    options = Options(transports=(kind.transport,))
    if kind.transport == "poll":
        options = options._replace(poll_interval_s=kind.cycle_s)
    if is_short:
        options = options._replace(ping_interval_s=plan.ping_interval_s, pong_timeout_s=plan.pong_timeout_s)
        options = options._replace(poll_wait_s=plan.poll_wait_s, backoff_cap_s=SHORT_BACKOFF_CAP_S)
    return options


def message(number: int, sent_us: int, size_bytes: int) -> dict[str, object]:
    """A message of ``size_bytes`` as JSON, with its number and when it was sent."""
    bare = len(f'{{"n":{number},"t":{sent_us},"p":""}}')
    return {"n": number, "t": sent_us, "p": "x" * max(0, size_bytes - bare)}


_NUMBER: Final = re.compile(r'"n":(\d+),"t":(\d+)')


def read_message(text: str) -> tuple[int, int]:
    """The number and the time of a message, from its JSON. Raises ``ValueError`` for any other text."""
    if found := _NUMBER.search(text):
        return int(found[1]), int(found[2])
    raise ValueError(f"{text[:80]!r} is not a message of this comparison")
