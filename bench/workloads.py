"""The workloads: each is one run of the load generator against one fresh server."""

from dataclasses import dataclass
from typing import Final, Literal

from bench.servers import Server
from bench.wires import PAYLOAD_BYTES

Unit = Literal["delivery", "round trip", "request", "connection"]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One workload.

    Attributes:
        name: for the command line and the result file.
        title: for the report.
        work: the load generator's name of it.
        connections: subscribers, pollers or connections opened.
        kind: the wire options it needs, see `bench.wires.Wire`; default: ``work``.
        options: further options of the load generator.
        unit: the counted unit.
        growth: the series it belongs to; only servers marked for growth run it.
    """

    name: str
    title: str
    work: str
    connections: int
    kind: str = ""
    options: tuple[str, ...] = ()
    unit: Unit = "delivery"
    growth: Literal["", "subscribers", "channels"] = ""

    def fits(self, server: Server) -> bool:
        """Return whether this server is measured in this workload."""
        return (self.kind or self.work) in server.wire and (server.growth or not self.growth)

    def arguments(self, server: Server, *, seconds: float, warm_s: float) -> list[str]:
        """Return the load generator's arguments, all but the port, the core and the process ids."""
        # Warm up every channel: the first publication of each makes its stream, in servers that keep one.
        warm_s = max(warm_s, self.connections / 10_000)
        load = [self.work, "--connections", self.connections, "--size", PAYLOAD_BYTES]
        timing = ["--seconds", seconds, "--warm", warm_s]
        return [str(word) for word in (*load, *timing, *self.options, *server.wire[self.kind or self.work])]


def fan_out(name: str, title: str, *options: str) -> Workload:
    """Return a fan-out to 1000 subscribers of one channel."""
    return Workload(name=name, title=title, work="fanout", connections=1000, options=options)


BASE: Final = [
    fan_out("fanout-w8", "Fan-out, 8 messages outstanding", "--window", "8"),
    fan_out("fanout-w1", "Fan-out, 1 message outstanding", "--window", "1"),
    fan_out("burst-50", "Fan-out, bursts of 50", "--burst", "50"),
    Workload(
        name="each",
        title="One by one",
        work="fanout",
        kind="each",
        connections=100,
        options=("--window", "1"),
    ),
    Workload(name="echo", title="Echo", work="echo", connections=100, unit="round trip"),
    Workload(name="longpoll", title="Long poll", work="longpoll", connections=200, options=("--window", "1")),
    Workload(name="publish", title="Publish by POST", work="publish", connections=20, unit="request"),
    Workload(
        name="idle",
        title="Idle connections",
        work="idle",
        connections=5000,
        options=("--settle", "1"),
        unit="connection",
    ),
    Workload(
        name="idle-stream",
        title="Idle event streams",
        work="idle",
        kind="idle-stream",
        connections=5000,
        options=("--settle", "1"),
        unit="connection",
    ),
    *(
        Workload(
            name=f"fairness-{flood}",
            title=f"One quiet echo while 32 connections flood with {words}",
            work="echo",
            kind="fairness",
            connections=1,
            options=("--flooders", "32", "--flood", flood),
            unit="round trip",
        )
        for flood, words in (
            ("pings", "pings"),
            ("fragments", "1-byte fragments"),
            ("messages", "3-byte messages"),
        )
    ),
    Workload(
        name="handshake",
        title="Connect, upgrade, close",
        work="handshake",
        kind="idle",
        connections=50,
        unit="connection",
    ),
]

SUBSCRIBERS: Final = (10, 100, 1000, 10000)
CHANNELS: Final = (1, 10, 100, 1000, 10000)


def growth() -> list[Workload]:
    """Return the growth series: subscribers of one channel, and channels of one subscriber each."""
    subscribers = [
        Workload(
            name=f"subscribers-{n}",
            title=f"Fan-out to {n:,} subscribers",
            work="fanout",
            connections=n,
            options=("--window", "8"),
            growth="subscribers",
        )
        for n in SUBSCRIBERS
    ]
    # One message in flight in all, at every number of channels: with more, a single channel would join
    # messages and many channels would not, and the series would show joining, not growth.
    channels = [
        Workload(
            name=f"channels-{n}",
            title=f"{n:,} channels, published in turn",
            work="roundrobin",
            kind="echo",
            connections=n,
            options=("--window", "1"),
            growth="channels",
        )
        for n in CHANNELS
    ]
    return subscribers + channels


def all_workloads() -> list[Workload]:
    """Return every workload in the order in which the report shows them."""
    return [*BASE, *growth()]
