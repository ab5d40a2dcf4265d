"""The values for the placeholders of `page.html`."""

from typing import Final

from heartwire.compare.figures import Figure, Report
from heartwire.compare.handshake import frame_html, frames_of, handshake_html, head_of, heads_of
from heartwire.compare.report import headline, number
from heartwire.compare.template import Html, join, part

__all__ = ["Facts"]

_MODES: Final = ("cut", "half_open")
_FRAMES: Final = (
    ("websocket", "up", "The client's first frame"),
    ("websocket", "down", "The server's first frame"),
    ("bare", "down", "A message on the bare WebSocket"),
)


class Facts:
    """Looks up the placeholders of `page.html`. One without a value is ""."""

    def __init__(self, report: Report) -> None:
        self.report = report
        made = (self._run(), self._lanes(), self._costs(), self._losses(), self._bytes())
        self.values: dict[str, str] = {name: value for values in made for name, value in values.items()}

    def __getitem__(self, name: str) -> str:
        """The value of a name. Raises ``KeyError`` for an unknown one.

        ``TRANSPORT.GROUP.KEY`` is a figure with its unit, ``set.NAME`` a setting, ``brief TRANSPORT`` its
        three main figures.
        """
        if name.startswith("brief "):
            return self._brief(name.removeprefix("brief "))
        if name.startswith("set."):
            return _bold(self.report.settings.get(name.removeprefix("set."), Figure(None, "")))
        if name.count(".") == 2:
            return _bold(self.figure(*name.split(".")))
        return self.values[name]

    def figure(self, transport: str, group: str, key: str) -> Figure:
        """A figure of one transport; see `Result.figure`."""
        return self.report.transports[transport].figure(group, key)

    def _value(self, transport: str, group: str, key: str) -> float:
        return self.figure(transport, group, key).value or 0

    def _brief(self, name: str) -> Html:
        up, down = (self.figure(name, "cost", way).value for way in ("up", "down"))
        return part(
            "brief",
            p50=_bold(self.figure(name, "news", "latency_p50")),
            message=_strong(f"{number(up + down)} B") if up is not None and down is not None else "",
            idle=_bold(self.figure(name, "idle", "total")),
        )

    def _run(self) -> dict[str, str]:
        report = self.report
        return {
            "version": report.heartwire,
            "when": report.when,
            "headline": headline(report),
            "own": "" if report.server else "yes",
            "notes": join(part("note", text=note) for note in report.notes),
            "settings": _listed(report.settings),
            "check": _listed(report.check),
        }

    def _lanes(self) -> dict[str, str]:
        lanes = {name: result.lane for name, result in self.report.transports.items()}
        span = max((at for lane in lanes.values() for at in (*lane.up.values, *lane.down.values)), default=0)
        values: dict[str, str] = {"lane_span": _strong(f"{span:.0f} s")}
        for name in ("longpoll", "websocket"):
            spoke, got = len(lanes[name].up.values), len(lanes[name].arrivals.values)
            times = "not once" if not spoke else "once" if spoke == 1 else f"{spoke} times"
            values[f"{name}_spoke"] = _strong(times)
            values[f"{name}_got"] = _strong(f"{got:,} message{'s' * (got != 1)}")
        return values

    def _costs(self) -> dict[str, str]:
        requests = self._value("poll-1s", "cost", "requests")
        poll, socket = (self._value(name, "idle", "total") for name in ("poll-1s", "websocket"))
        settings = self.report.settings
        bound = sum(settings[f"default_{name}"].value or 0 for name in ("ping_interval", "pong_timeout"))
        times = number(float(f"{poll / socket:.2g}")) if poll and socket else ""
        return {
            "per_poll": _strong(f"{number(1 / requests)} messages") if requests else "",
            "idle_times": _strong(f"{times} times") if times else "",
            "poll_bits": _bits(poll),
            "websocket_bits": _bits(socket),
            "default_bound": _strong(f"{bound:g} s"),
        }

    def _losses(self) -> dict[str, str]:
        ours = [name for name in self.report.transports if name != "bare"]
        lost = {mode: sum(self._value(name, mode, "lost") for name in ours) for mode in _MODES}
        doubled = sum(self._value(name, "cut", "doubled") for name in ours)
        bare = {key: sum(self._value("bare", mode, key) for mode in _MODES) for key in ("lost", "sent")}
        noticed = self.figure("bare", "half_open", "noticed").value
        return {
            **{f"bare_{key}": _strong(f"{bare[key]:,.0f}") if bare["sent"] else "" for key in bare},
            "ours_lost": _none(sum(lost.values())),
            "cut_lost": _none(lost["cut"]),
            "cut_doubled": _none(doubled),
            "half_open_lost": _none(lost["half_open"]),
            "bare_noticed": _strong(f"noticed after {number(noticed)} s") if noticed is not None else "",
            "bare_missed": "" if noticed is not None else "yes",
        }

    def _bytes(self) -> dict[str, str]:
        """The recorded bytes: the handshake, some frames, and a long poll's heads beside a frame's."""
        transports = self.report.transports
        frames = {name: frames_of(transports[name].trace) for name in ("websocket", "bare")}
        down = [frame for frame in frames["websocket"] if frame.direction == "down"]
        heads = heads_of(transports["longpoll"].trace, 2) if down else []
        handshake = handshake_html(transports["websocket"])
        shown = []
        for name, direction, title in _FRAMES:
            frame = next((frame for frame in frames[name] if frame.direction == direction), None)
            shown += [frame_html(frame, title)] if handshake and frame is not None else []
        return {
            "handshake": handshake,
            "frames": join(shown),
            "tls": "yes" if self.report.server and not handshake else "",
            "token": "" if self.report.server or handshake else "yes",
            "poll_asked": f"{heads[0].size.value:.0f} B" if heads else "",
            "poll_answered": f"{heads[1].size.value:.0f} B" if heads else "",
            "poll_heads": "\n\n".join(head_of(head).strip() for head in heads).replace("\r", ""),
            "frame_size": f"{len(down[-1].header)} B" if down else "",
            "frame_header": down[-1].header.hex(" ") if down else "",
        }


def _strong(text: str) -> Html:
    return part("strong", text=text)


def _bold(figure: Figure) -> Html:
    """A figure with the first word of its unit, on one line; the sentence says "a message" or "a minute"."""
    if figure.value is None:
        return Html()
    return _strong(f"{number(figure.value)} {figure.unit.partition('/')[0]}".replace(" ", "\u00a0"))


def _none(count: float) -> Html:
    return _strong(f"{count:,.0f}" if count else "none")


def _bits(bytes_per_minute: float) -> str:
    """The rate of ten thousand clients."""
    kbit = bytes_per_minute * 10_000 * 8 / 60 / 1000
    text = f"{number(kbit / 1000)} Mbit/s" if kbit >= 1000 else f"{number(kbit)} kbit/s"
    return _strong(text) if kbit else ""


def _listed(figures: dict[str, Figure]) -> Html:
    def text(figure: Figure) -> str:
        value = "–" if figure.value is None else f"{figure.value:,.12g} {figure.unit}"
        return f"{value} ({figure.note})" if figure.note else value

    return join(part("fact", name=name.replace("_", " "), text=text(one)) for name, one in figures.items())
