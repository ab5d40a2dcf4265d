"""One run's figures, and many runs in a JSON file."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Run:
    """The result of one run of the load generator.

    Attributes:
        deliveries: counted units: deliveries, round trips, requests or connections, by workload.
        seconds: from the first message to the last delivery of the measured part.
        cpu_ns: user and system time of all the server's processes in the measured part.
        other_share: share of the server's core that something else used; above 0.1 the run is noisy.
        memory_before, memory_after: proportional set size in bytes (workload idle).
        complete: every message came to every subscriber exactly once and in order.
    """

    server: str
    workload: str
    repeat: int
    connections: int = 0
    deliveries: int = 0
    expected: int = 0
    seconds: float = 0.0
    cpu_ns: float = 0.0
    other_share: float = 0.0
    p50_us: float = 0.0
    p99_us: float = 0.0
    max_us: float = 0.0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupt: int = 0
    open_seconds: float = 0.0
    open_cpu_ns: float = 0.0
    memory_before: int = 0
    memory_after: int = 0
    complete: bool = False
    failure: str = ""

    @classmethod
    def from_dict(cls, values: dict[str, object], **more: object) -> Self:
        """Make a run from the load generator's JSON; ``more`` replaces its own name of the workload."""
        known = cls.__dataclass_fields__
        return cls(**{key: value for key, value in {**values, **more}.items() if key in known})  # type: ignore[arg-type]

    @property
    def cpu_us(self) -> float:
        """Server CPU per counted unit, in microseconds."""
        return self.cpu_ns / 1000 / self.deliveries if self.deliveries else 0.0

    @property
    def rate(self) -> float:
        """Counted units per second."""
        return self.deliveries / self.seconds if self.seconds else 0.0

    @property
    def memory_per_connection(self) -> float:
        """Bytes of server memory per connection (workload idle)."""
        return (self.memory_after - self.memory_before) / self.connections if self.connections else 0.0

    @property
    def trouble(self) -> str:
        """Why the run does not count, or an empty string."""
        if self.complete:
            return ""
        counts = ("lost", "duplicated", "reordered", "corrupt")
        wrong = [f"{getattr(self, name)} {name}" for name in counts if getattr(self, name)]
        return "; ".join([text for text in (self.failure, ", ".join(wrong)) if text]) or "incomplete"


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of some runs."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Make one from at least one value."""
        ordered = sorted(values)
        return cls(median(ordered), ordered[0], ordered[-1])


@dataclass
class Results:
    """The results of one invocation.

    Attributes:
        machine: facts about the machine and the versions, by name.
        skipped: reason by server name.
    """

    machine: dict[str, str]
    command: str
    seconds: float
    skipped: dict[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def counted(self, server: str, workload: str) -> list[Run]:
        """Return the complete runs of one server in one workload."""
        return [run for run in self.runs if run.complete and (run.server, run.workload) == (server, workload)]

    def cpu_us(self, server: str, workload: str) -> Spread | None:
        """Return server CPU per counted unit, in microseconds."""
        runs = self.counted(server, workload)
        return Spread.of(run.cpu_us for run in runs) if runs else None

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of `save`."""
        values = json.loads(path.read_text())
        values["runs"] = [Run(**run) for run in values["runs"]]
        return cls(**values)
