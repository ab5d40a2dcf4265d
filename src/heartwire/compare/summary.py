"""Makes figures of the records of a run. Pure."""

from collections.abc import Iterable, Sequence
from itertools import islice
from statistics import median
from typing import Final, NamedTuple

from heartwire.compare.figures import Bytes, Fault, Figure, Lane, Series, Shown
from heartwire.compare.meter import Beat, Passed, Reading
from heartwire.compare.plan import LATE_MS, Kind
from heartwire.compare.subscribers import Arrival
from heartwire.compare.wire import PARTS, Counts, Part, Piece

__all__ = ["Life", "cost_of", "fault_of", "idle_of", "lane_of", "news_of", "parts_of", "shown"]

TLS: Final = "TLS: hides the parts"
_MAX_SHOWN: Final = 16
_ONE_THING_S: Final = 0.005
_SHARES: Final = {"p50": 0.5, "p99": 0.99, "max": 1}


class Life(NamedTuple):
    """The messages of one subscriber in a run, and when it noticed that its connection was gone."""

    arrivals: Sequence[Arrival]
    noticed: Sequence[float] = ()


def news_of(lives: Sequence[Life], sent: int) -> dict[str, Figure]:
    """Latency, and how many messages came, were lost or doubled."""
    firsts = (arrival for life in lives for arrival in first_times(life.arrivals))
    delays_ms = sorted((arrival.at - arrival.sent_at) * 1000 for arrival in firsts)
    return {
        **{f"latency_{name}": _rounded(_quantile(delays_ms, share), "ms") for name, share in _SHARES.items()},
        "sent": Figure(sent, "messages"),
        "expected": Figure(sent * len(lives), "messages"),
        "delivered": Figure(len(delays_ms), "messages"),
        "late": Figure(sum(delay > LATE_MS for delay in delays_ms), "messages"),
        "lost": Figure(_lost(lives, sent), "messages"),
        "doubled": Figure(_doubled(lives), "messages"),
    }


def first_times(arrivals: Iterable[Arrival]) -> list[Arrival]:
    """The first arrival of each message."""
    seen: dict[int, Arrival] = {}
    for arrival in arrivals:
        seen.setdefault(arrival.number, arrival)
    return list(seen.values())


def _lost(lives: Iterable[Life], sent: int) -> int:
    return sum(sent - len({arrival.number for arrival in life.arrivals}) for life in lives)


def _doubled(lives: Iterable[Life]) -> int:
    return sum(len(life.arrivals) - len({arrival.number for arrival in life.arrivals}) for life in lives)


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The quantile by nearest rank, which is a measured value."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _rounded(value: float | None, unit: str, digits: int = 3, note: str = "") -> Figure:
    return Figure(None if value is None else round(value, digits), unit, note)


def parts_of(counts: Counts) -> Bytes:
    """The bytes by part, and their total."""
    return {part: Figure(counts.by_part[part], "B") for part in PARTS} | {"total": Figure(counts.total, "B")}


def cost_of(
    setup: Reading,
    stream: Reading,
    delivered: int,
    subscribers: int,
    size_bytes: int,
    cpu_ns: int | None,
    why_no_cpu: str,
) -> dict[str, Figure]:
    """The cost of a delivered message, and what is paid once."""

    def each(total: float | None, unit: str, note: str = "") -> Figure:
        return _rounded(None if total is None or not delivered else total / delivered, unit, 4, note)

    is_split = not (stream.up.by_part["opaque"] or stream.down.by_part["opaque"])
    tls = "" if is_split else TLS

    def part(name: Part, *counts: Counts) -> Figure:
        names: tuple[Part, ...] = ("headers", "handshake") if name == "headers" else (name,)
        size = sum(one.by_part[name] for one in counts for name in names)
        return each(size if is_split else None, "B/message", tls)

    up, down = stream.up, stream.down
    ways: dict[str, tuple[Counts, ...]] = {"up_": (up,), "down_": (down,), "": (up, down)}
    kinds: tuple[Part, ...] = ("headers", "payload", "control")
    parts = {f"{way}{kind}": part(kind, *counts) for way, counts in ways.items() for kind in kinds}
    down_payload = parts["down_payload"]
    envelope = None if down_payload.value is None else max(0.0, down_payload.value - size_bytes)
    once = (setup.up.total + setup.down.total) / subscribers
    handshake = (setup.up.by_part["handshake"] + setup.down.by_part["handshake"]) / subscribers
    return {
        "up": each(up.total, "B/message"),
        "down": each(down.total, "B/message"),
        **parts,
        "down_envelope": _rounded(envelope, "B/message", 4, down_payload.note),
        "setup": _rounded(once, "B/subscriber", 1),
        "handshake": _rounded(handshake if not setup.up.by_part["opaque"] else None, "B/subscriber", 1, tls),
        "requests": each(stream.requests, "requests/message"),
        "connections": each((setup.connections + stream.connections) * 1000, "connections/1000 messages"),
        "server_cpu": each(None if cpu_ns is None else max(0, cpu_ns) / 1000, "µs/message", why_no_cpu),
    }


def idle_of(kind: Kind, found: Sequence[Beat]) -> dict[str, Figure]:
    """The bytes of an idle minute: the median exchange, as often as it happens with the default settings."""
    per_minute = 60 / kind.cycle_s
    exchanges = {"exchanges": _rounded(per_minute, "exchanges/minute")}
    if not found:
        note = "not one exchange while it was idle"
        return dict.fromkeys(("up", "down", "total", *PARTS), Figure(None, "B/minute", note)) | exchanges
    middle = sorted(found, key=lambda beat: beat.up.total + beat.down.total)[len(found) // 2]
    up, down = middle.up, middle.down
    sizes = {"up": up.total, "down": down.total, "total": up.total + down.total}
    sizes |= {part: up.by_part[part] + down.by_part[part] for part in PARTS}
    note = f"one exchange every {kind.cycle_s:g} s; {len(found)} were measured"
    figures = {name: _rounded(size * per_minute, "B/minute", 1, note) for name, size in sizes.items()}
    return figures | exchanges


def lane_of(passed: Iterable[Passed], arrivals: Iterable[Arrival], since: float, until: float) -> Lane:
    """The traffic of one subscriber between two moments."""
    kept = [one for one in passed if since <= one.at < until]
    return Lane(
        up=_times(_joined(one.at for one in kept if one.direction == "up"), since),
        down=_times(_joined(one.at for one in kept if one.direction == "down"), since),
        arrivals=_times((arrival.at for arrival in arrivals if since <= arrival.at < until), since),
    )


def _joined(moments: Iterable[float]) -> Iterable[float]:
    """The moments without those right after another one: a head and its body count once."""
    last = float("-inf")
    for moment in moments:
        if moment - last > _ONE_THING_S:
            yield moment
        last = moment


def _times(moments: Iterable[float], since: float) -> Series:
    return Series([round(moment - since, 3) for moment in moments], "s")


def fault_of(
    lives: Sequence[Life], sent: Sequence[float], failed_at: float, healed_at: float, ended_at: float
) -> Fault:
    """The effects of a failing link. ``sent``: when each message was sent, from number 1 on."""
    watched = f"{ended_at - failed_at:.0f} s"
    before = {number for number, at in enumerate(sent, 1) if at < healed_at}
    noticed = [next((at - failed_at for at in life.noticed if at >= failed_at), None) for life in lives]
    came = ([one.at - healed_at for one in life.arrivals if one.at >= healed_at] for life in lives)
    back = [delays[0] if delays else None for delays in came]
    caught_up = [_caught_up(life, before, healed_at) for life in lives]
    first = lives[0]
    had = {arrival.number for arrival in first.arrivals}
    unnoticed = f"not within {watched}" if None in caught_up else "no need: it fell between two questions"
    return Fault(
        noticed=_middle(noticed, unnoticed),
        back=_middle(back, f"not within {watched}"),
        caught_up=_middle(caught_up, "never: what was missed is lost"),
        sent=Figure(len(sent) * len(lives), "messages"),
        lost=Figure(_lost(lives, len(sent)), "messages"),
        doubled=Figure(_doubled(lives), "messages"),
        arrivals=_times((arrival.at for arrival in first.arrivals), sent[0]),
        arrivals_sent=_times((arrival.sent_at for arrival in first.arrivals), sent[0]),
        missing=_times((at for number, at in enumerate(sent, 1) if number not in had), sent[0]),
    )


def _caught_up(life: Life, wanted: set[int], healed_at: float) -> float | None:
    left = set(wanted)
    for arrival in life.arrivals:
        left.discard(arrival.number)
        if not left:
            return max(0.0, arrival.at - healed_at)
    return None


def _middle(values: Sequence[float | None], otherwise: str) -> Figure:
    """The median; without a value, and with ``otherwise`` as its note, where at least half have none."""
    known = [value for value in values if value is not None]
    if 2 * len(known) <= len(values):
        return Figure(None, "s", otherwise)
    note = "" if len(known) == len(values) else f"{len(values) - len(known)} of {len(values)}: {otherwise}"
    return _rounded(median(known), "s", 3, note)


def shown(pieces: Iterable[Piece]) -> list[Shown]:
    """The first pieces of a recording, as a report has them."""
    first = islice(pieces, _MAX_SHOWN)
    return [Shown(piece.direction, piece.what, piece.data.hex(), Figure(piece.size, "B")) for piece in first]
