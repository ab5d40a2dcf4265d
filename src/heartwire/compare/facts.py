"""What the page's text may say: figures of the run by name, and what follows from them. A name without a
value is ""."""

from html import escape
from typing import Final

from heartwire.compare.figures import Figure, Report
from heartwire.compare.handshake import exchange_html, frame_html, frames_of, handshake_html
from heartwire.compare.report import headline, number

__all__ = ["Facts"]

_MODES: Final = ("cut", "half_open")
_LOOPBACK: Final = (
    " Here all of it ran on one machine. On a real network add half a round trip to each; to a long poll up"
    " to one and a half, when news comes just after an answer has left and the next question is still on its"
    " way."
)


class Facts:
    """Looks up what stands between braces in `page.html`."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.made = self._made()

    def __getitem__(self, name: str) -> str:
        """HTML for a name. Raises ``KeyError`` for one that is not known.

        ``TRANSPORT.GROUP.KEY`` is a figure with its unit, ``set.NAME`` a setting, ``told TRANSPORT`` its
        three main figures.
        """
        if name.startswith("told "):
            return self._told(name.removeprefix("told "))
        if name.startswith("set."):
            return _bold(self.report.settings.get(name.removeprefix("set."), Figure(None, "")))
        if name.count(".") == 2:
            return _bold(self.figure(*name.split(".")))
        return self.made[name]

    def figure(self, transport: str, group: str, key: str) -> Figure:
        """A figure of one transport; ``group``: a field of `Result`. One without a value where there was no
        such run."""
        found = getattr(self.report.transports[transport], group)
        if found is None:
            return Figure(None, "")
        figure: Figure = found[key] if isinstance(found, dict) else getattr(found, key)
        return figure

    def _made(self) -> dict[str, str]:
        report = self.report
        lanes = {name: result.lane for name, result in report.transports.items()}
        lost = {mode: self._sum(mode, "lost") for mode in _MODES}
        bare = [self.figure("bare", mode, key).value or 0 for key in ("lost", "sent") for mode in _MODES]
        per_poll = self.figure("poll-1s", "cost", "requests").value
        poll, socket = (self.figure(name, "idle", "total").value for name in ("poll-1s", "websocket"))
        bound = sum(
            report.settings[name].value or 0 for name in ("default_ping_interval", "default_pong_timeout")
        )
        span = max((at for lane in lanes.values() for at in (*lane.up.values, *lane.down.values)), default=0)
        return {
            "version": escape(report.heartwire),
            "when": escape(report.when),
            "headline": escape(headline(report)),
            "loopback": "" if report.server else _LOOPBACK,
            "lane_span": _strong(f"{span:.0f} s"),
            "longpoll_spoke": _times(len(lanes["longpoll"].up.values)),
            "longpoll_got": _messages(len(lanes["longpoll"].arrivals.values)),
            "websocket_spoke": _times(len(lanes["websocket"].up.values)),
            "websocket_got": _messages(len(lanes["websocket"].arrivals.values)),
            "per_poll": _strong(f"{number(1 / per_poll)} messages") if per_poll else "",
            "idle_times": (
                _strong(f"{number(float(f'{poll / socket:.2g}'))} times") if poll and socket else ""
            ),
            "poll_bits": _bits(poll),
            "websocket_bits": _bits(socket),
            "bare_lost": _strong(f"{sum(bare[:2]):,.0f}") if bare[2] else "",
            "bare_sent": _strong(f"{sum(bare[2:]):,.0f}") if bare[2] else "",
            "ours_lost": _none(sum(lost.values())),
            "cut_lost": _none(lost["cut"]),
            "cut_doubled": _none(self._sum("cut", "doubled")),
            "half_open_lost": _none(lost["half_open"]),
            "bare_noticed": _noticed(self.figure("bare", "half_open", "noticed")),
            "default_bound": _strong(f"{bound:g} s"),
            "exchange": self._exchange(),
            "handshake": self._handshake(),
            "handshake_intro": self._handshake_intro(),
            "notes": "".join(f"<li>{escape(note)}</li>" for note in report.notes),
            "settings": _listed(report.settings),
            "check": _listed(report.check),
        }

    def _sum(self, mode: str, key: str) -> float:
        """Of all transports but the bare one."""
        return sum(
            self.figure(name, mode, key).value or 0 for name in self.report.transports if name != "bare"
        )

    def _told(self, name: str) -> str:
        up, down = (self.figure(name, "cost", way).value for way in ("up", "down"))
        said = {
            "p50": _bold(self.figure(name, "news", "latency_p50")),
            "a message": _strong(f"{number(up + down)} B") if up is not None and down is not None else "",
            "an idle minute": _bold(self.figure(name, "idle", "total")),
        }
        return "".join(f"<span>{title} {text}</span>" for title, text in said.items() if text)

    def _exchange(self) -> str:
        frames = [
            frame
            for frame in frames_of(self.report.transports["websocket"].trace)
            if frame.direction == "down"
        ]
        return exchange_html(self.report.transports["longpoll"].trace, frames[-1] if frames else None)

    def _handshake_intro(self) -> str:
        if self._handshake():
            return "This is what passed the proxy in this run; B counts each line with its end."
        return "It can't be shown of this run: " + (
            "TLS hides it." if self.report.server else "it would show the token."
        )

    def _handshake(self) -> str:
        ours = self.report.transports["websocket"]
        shown = handshake_html(ours)
        if not shown:
            return ""
        chosen = [
            ("The client's first frame", "up", ours.trace),
            ("The server's first frame", "down", ours.trace),
        ]
        chosen.append(("A message on the bare WebSocket", "down", self.report.transports["bare"].trace))
        html = (
            "<h3>And then: frames</h3><p>What follows has no lines and no names. Each frame begins with two"
            " bytes: the first says"
        )
        html += (
            " whether the message ends here and what it is, the second whether it is masked and how long it"
            " is.</p>"
        )
        for title, direction, trace in chosen:
            frame = next((frame for frame in frames_of(trace) if frame.direction == direction), None)
            html += frame_html(frame, title) if frame is not None else ""
        return shown + html


def _strong(text: str) -> str:
    return f"<b>{escape(text)}</b>"


def _unbroken(text: str) -> str:
    """A number and its unit stay on one line."""
    return text.replace(" ", "\u00a0")


def _bold(figure: Figure) -> str:
    """With its unit, which the sentence says "a message" or "a minute" to."""
    return (
        ""
        if figure.value is None
        else _strong(_unbroken(f"{number(figure.value)} {figure.unit.partition('/')[0]}"))
    )


def _times(count: int) -> str:
    return _strong("not once" if not count else "once" if count == 1 else f"{count} times")


def _messages(count: int) -> str:
    return _strong(f"{count:,} message{'s' * (count != 1)}")


def _none(count: float) -> str:
    return _strong(f"{count:,.0f}" if count else "none")


def _noticed(figure: Figure) -> str:
    return _strong(
        "did not notice while it was watched"
        if figure.value is None
        else f"noticed after {number(figure.value)} s"
    )


def _bits(bytes_per_minute: float | None) -> str:
    """For ten thousand clients, a second."""
    if bytes_per_minute is None:
        return ""
    kbit = bytes_per_minute * 10_000 * 8 / 60 / 1000
    return _strong(f"{number(kbit / 1000)} Mbit/s" if kbit >= 1000 else f"{number(kbit)} kbit/s")


def _listed(figures: dict[str, Figure]) -> str:
    def said(figure: Figure) -> str:
        value = "–" if figure.value is None else f"{figure.value:,.12g} {figure.unit}"
        return f"{value} ({figure.note})" if figure.note else value

    return "".join(
        f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(said(figure))}</dd></div>"
        for name, figure in figures.items()
    )
