"""The plots, as SVG: each is drawn for a width, because scaling would make its letters unreadable."""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final

from heartwire.compare.figures import Fault, Figure, Report, Result
from heartwire.compare.report import cell, number
from heartwire.compare.template import read

__all__ = ["PLOTS", "overview"]

_SIDE_FROM: Final = 600
"""From this width on names stand left of the marks and figures right of them; below it, above them."""
_LABEL: Final = 132
_FIGURES: Final = 186
_AXIS: Final = 24
_HEAD: Final = 17


class Svg:
    """An image under construction: rows of marks over one axis, each row with a name and figures.

    Args:
        marks: the height of a row's marks.
        figures: the width of the figures at the right, where they stand there.
    """

    def __init__(
        self, width: int, rows: int, marks: float, title: str, description: str, *, figures: int = _FIGURES
    ) -> None:
        is_wide = width >= _SIDE_FROM
        self.width = width
        self.left = _LABEL if is_wide else 0
        self.right = width - figures if is_wide else width
        self.pitch = marks + (10 if is_wide else _HEAD + 9)
        self.bottom = rows * self.pitch
        self.height = self.bottom + _AXIS
        self.parts: list[str] = []
        self._is_wide, self._marks = is_wide, marks
        self._title, self._description = title, description

    def row(self, index: int, label: str, figures: str) -> float:
        """Begin a row. Returns the top of its marks."""
        top = index * self.pitch + (4 if self._is_wide else _HEAD)
        line = top + self._marks / 2 + 4 if self._is_wide else top - 6
        self.text(0, line, label, "b")
        self.text(self.width, line, figures, "q", "end")
        return top

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        end = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.parts.append(f'<text x="{x:g}" y="{y:g}"{_class(style)}{end}>{escape(text)}</text>')

    def bar(
        self, x: float, y: float, wide: float, high: float, fill: str = "", style: str = "", radius: float = 0
    ) -> None:
        colour = f' fill="{fill}"' if fill else ""
        corner = f' rx="{radius:g}"' if radius else ""
        size = f'width="{max(0, wide):.4g}" height="{high:.4g}"'
        self.parts.append(f'<rect x="{x:.5g}" y="{y:.5g}" {size}{corner}{colour}{_class(style)}/>')

    def lines(self, lines: Iterable[tuple[float, ...]], colour: str, thick: float = 1.5) -> None:
        path = "".join(f"M{x1:.1f} {y1:g}L{x2:.1f} {y2:g}" for x1, y1, x2, y2 in lines)
        if path:
            self.parts.append(f'<path d="{path}" stroke="{colour}" stroke-width="{thick:g}" fill="none"/>')

    def dot(self, x: float, y: float, radius: float, fill: str) -> None:
        self.parts.append(f'<circle cx="{x:.5g}" cy="{y:.5g}" r="{radius:g}" fill="{fill}"/>')

    def axis(self, ticks: Sequence[tuple[float, str]]) -> None:
        """Draw fine lines behind everything, with their labels below."""
        lines = "".join(f"M{x:.1f} 0V{self.bottom:g}" for x, _ in ticks)
        self.parts.insert(0, f'<path d="{lines}" class="g"/>')
        for at, (x, label) in enumerate(ticks):
            anchor = "start" if at == 0 else "end" if at == len(ticks) - 1 else "middle"
            self.text(x, self.bottom + 18, label, "q", anchor)

    def render(self, name: str, style: str = "") -> str:
        """The whole image; ``style`` for one that stands alone."""
        box = f'viewBox="0 0 {self.width} {self.height:g}" role="img" class="plot"'
        ids = f'aria-labelledby="{name}-t {name}-d"'
        size = f' width="{self.width}" height="{self.height:g}"' if style else ""
        title = f'<title id="{name}-t">{escape(self._title)}</title>'
        description = f'<desc id="{name}-d">{escape(self._description)}</desc>'
        sheet = f"<style>{style}</style>" if style else ""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} {ids}{size}>'
        return f"{head}{title}{description}{sheet}{''.join(self.parts)}</svg>"


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""


def _log_scale(svg: Svg, least: float, most: float) -> Callable[[float], float]:
    low, high = math.log10(least), math.log10(most)
    left, width = svg.left + 7, svg.right - svg.left - 14
    return lambda value: left + (math.log10(min(max(value, least), most)) - low) / (high - low) * width


def _decades(values: Sequence[float]) -> list[float]:
    """The powers of ten around some values."""
    low = math.floor(math.log10(max(min(values, default=1), 1e-3)))
    high = math.ceil(math.log10(max(max(values, default=10), 1e-3) * 1.0001))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def _colour(name: str) -> str:
    return f"var(--{name})"


def _with_unit(figure: Figure) -> str:
    return f"{cell(figure)} {figure.unit.partition('/')[0]}" if figure.value is not None else cell(figure)


def _value(figure: Figure) -> float:
    return figure.value or 0.0


def _latency(report: Report, width: int) -> Svg:
    """Latency from p50 to max, on a logarithmic scale."""
    rows = [(key, result.label, result.news) for key, result in report.transports.items()]
    known = [_value(news[f"latency_{which}"]) for _, _, news in rows for which in ("p50", "max")]
    decades = _decades([value for value in known if value])
    said = "{}: p50 {}, p99 {}".format
    shares = ("latency_p50", "latency_p99")
    described = "; ".join(said(label, *(_with_unit(news[one]) for one in shares)) for _, label, news in rows)
    title = "Latency in milliseconds, on a logarithmic scale"
    svg = Svg(width, len(rows), 16, title, described)
    scale = _log_scale(svg, decades[0], decades[-1])
    for index, (key, label, news) in enumerate(rows):
        values = [news[f"latency_{which}"].value for which in ("p50", "p99", "max")]
        middle = svg.row(index, label, " · ".join(_milliseconds(value) for value in values)) + 8
        if None not in values:
            p50, p99, longest = (scale(value or decades[0]) for value in values)
            svg.bar(p50, middle - 1, longest - p50, 2, _colour(key))
            svg.bar(p50, middle - 3, p99 - p50, 6, _colour(key), radius=3)
            svg.dot(p50, middle, 6, _colour(key))
            svg.bar(longest - 1, middle - 5, 2, 10, _colour(key))
    svg.axis([(scale(value), _milliseconds(value)) for value in decades])
    return svg


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{number(round(value / 1000, 2))} s" if value >= 1000 else f"{number(value)} ms"


def _cost(report: Report, width: int) -> Svg:
    """Bytes per message, up and down, split into headers, envelope and message."""
    rows = [(result.label, result.cost) for result in report.transports.values()]
    size = _value(report.settings["size"])
    most = max(max(_value(cost["up"]), _value(cost["down"])) for _, cost in rows) or 1
    said = ((label, _with_unit(cost["up"]), _with_unit(cost["down"])) for label, cost in rows)
    described = "; ".join(f"{label}: up {up}, down {down}" for label, up, down in said)
    title = "Bytes per message, up and down, split into headers, envelope and message"
    svg = Svg(width, len(rows), 18, title, described, figures=150)
    wide = svg.right - svg.left
    for index, (label, cost) in enumerate(rows):
        top = svg.row(index, label, f"↑ {_with_unit(cost['up'])}  ↓ {_with_unit(cost['down'])}")
        for line, parts in enumerate(_bars(cost, size)):
            x, y = float(svg.left), top + line * 10
            svg.bar(svg.left, y, wide, 8, style="r", radius=2)
            for part, value in parts.items():
                svg.bar(x, y, wide * value / most, 8, _colour(part))
                x += wide * value / most
    svg.height -= _AXIS - 4
    return svg


def _bars(cost: dict[str, Figure], size: float) -> list[dict[str, float]]:
    """The parts of the two bars; one part where they are not known."""
    if cost["headers"].value is None:
        return [{"faint": _value(cost[way])} for way in ("up", "down")]
    headers = {way: _value(cost[f"{way}_headers"]) + _value(cost[f"{way}_control"]) for way in ("up", "down")}
    up = {"headers": headers["up"], "envelope": _value(cost["up_payload"])}
    down = {"headers": headers["down"], "envelope": _value(cost["down_envelope"])}
    return [up, {**down, "message": min(size, _value(cost["down_payload"]))}]


def _idle(report: Report, width: int) -> Svg:
    """Bytes in a minute without messages, on a logarithmic scale."""
    rows = [(key, result.label, result.idle) for key, result in report.transports.items()]
    decades = _decades([_value(idle["total"]) for _, _, idle in rows if idle["total"].value])
    described = "; ".join(f"{label}: {_with_unit(idle['total'])}" for _, label, idle in rows)
    title = "Bytes up and down in a minute without messages, on a logarithmic scale"
    svg = Svg(width, len(rows), 16, title, described)
    scale = _log_scale(svg, decades[0], decades[-1])
    for index, (key, label, idle) in enumerate(rows):
        total, exchanges = idle["total"], number(_value(idle["exchanges"]))
        figures = f"{_with_unit(total)} in {exchanges} exchanges" if total.value else "–"
        middle = svg.row(index, label, figures) + 8
        if total.value:
            x = scale(total.value)
            svg.bar(svg.left + 7, middle - 1, x - svg.left - 7, 2, _colour(key))
            svg.dot(x, middle, 6, _colour(key))
    svg.axis([(scale(value), _bytes(value)) for value in decades])
    return svg


def _bytes(value: float) -> str:
    return f"{number(value / 1000)} kB" if value >= 1000 else f"{number(value)} B"


def _lanes(report: Report, width: int) -> Svg:
    """Some seconds of traffic: above the line what a client sent, below what was sent to it."""
    rows = list(report.transports.items())
    moments = (at for _, result in rows for at in (*result.lane.down.values, *result.lane.up.values))
    span = max(1.0, math.ceil(max(moments, default=0)))
    described = "; ".join(f"{result.label}: {_talk(result)}" for _, result in rows)
    title = f"Traffic of {span:g} s, one subscriber of each transport"
    svg = Svg(width, len(rows), 26, title, described, figures=110)
    at = _time_scale(svg, span)
    for index, (key, result) in enumerate(rows):
        line = svg.row(index, result.label, _talk(result)) + 13
        svg.bar(svg.left, line - 0.5, svg.right - svg.left, 1, "var(--faint)")
        up, down = ([at(moment) for moment in series.values] for series in (result.lane.up, result.lane.down))
        svg.lines(((x, line - 13, x, line - 1) for x in up), "var(--ink)")
        svg.lines(((x, line + 1, x, line + 13) for x in down), _colour(key))
    svg.axis(_seconds(svg, span))
    return svg


def _talk(result: Result) -> str:
    return f"{len(result.lane.up.values)} × ↑  {len(result.lane.down.values)} × ↓"


def _time_scale(svg: Svg, span: float) -> Callable[[float], float]:
    return lambda moment: svg.left + 1 + moment / span * (svg.right - svg.left - 2)


def _seconds(svg: Svg, span: float) -> list[tuple[float, str]]:
    most = (svg.right - svg.left) // 52
    step = next(step for step in (1, 2, 5, 10, 20, 30, 60, 120, 600) if span / step <= most)
    return [(_time_scale(svg, span)(mark * step), f"{mark * step} s") for mark in range(int(span / step) + 1)]


def _fault(report: Report, width: int, mode: str, only: Sequence[str] = ()) -> Svg:
    """A line for each message, from sent to received, while the link failed; short and red if lost."""
    found = {key: getattr(result, mode) for key, result in report.transports.items()}
    rows: dict[str, Fault] = {key: fault for key, fault in found.items() if fault and key in (only or found)}
    labels = {key: report.transports[key].label for key in rows}
    moments = (at for fault in rows.values() for at in (*fault.arrivals.values, *fault.missing.values))
    span = max(1.0, math.ceil(max(moments, default=0)))
    before, cut = _value(report.settings["before"]), _value(report.settings["cut"])
    what = "is cut" if mode == "cut" else "goes silent"
    described = "; ".join(f"{labels[key]}: {_fared(fault)}" for key, fault in rows.items())
    title = f"Messages sent and received while the link {what} for {cut:g} s"
    svg = Svg(width, len(rows), 30, title, described)
    at = _time_scale(svg, span)
    for index, (key, fault) in enumerate(rows.items()):
        top = svg.row(index, labels[key], _fared(fault))
        svg.bar(at(before), top, at(before + cut) - at(before), 30, "var(--fails)")
        svg.lines(((svg.left, y, svg.right, y) for y in (top, top + 30)), "var(--faint)", 1)
        ways = zip(fault.arrivals_sent.values, fault.arrivals.values, strict=True)
        svg.lines(((at(sent), top, at(came), top + 30) for sent, came in ways), _colour(key), 1)
        svg.lines(((at(sent), top, at(sent), top + 10) for sent in fault.missing.values), "var(--bad)", 1.5)
        if fault.noticed.value is not None:
            mark = f"M{at(before + fault.noticed.value):.1f} {top + 30:g}l-5 8h10z"
            svg.parts.append(f'<path d="{mark}" fill="var(--ink)"/>')
    svg.axis(_seconds(svg, span))
    return svg


def _fared(fault: Fault) -> str:
    came = f"caught up {cell(fault.caught_up)} s" if fault.caught_up.value is not None else "never caught up"
    return f"{came} · {cell(fault.lost)} lost"


PLOTS: Final[dict[str, Callable[[Report, int], Svg]]] = {
    "news": _latency,
    "cost": _cost,
    "idle": _idle,
    "lanes": _lanes,
    "cut": lambda report, width: _fault(report, width, "cut"),
    "half_open": lambda report, width: _fault(report, width, "half_open"),
}
"""By the name of their figures."""

_FAULT_PANELS: Final = {"cut": "is cut for {}", "half_open": "goes silent for {}, and nothing reports it"}


def overview(report: Report) -> str:
    """The plot for a README: latency, idle cost, and two WebSockets on a failing link."""
    width, gap, margin = 820, 36, 20
    half = (width - gap) // 2
    panels = [(0, 0.0, "Latency", "p50 · p99 · max", _latency(report, half))]
    panels.append((half + gap, 0.0, "Bytes of an idle minute", "", _idle(report, half)))
    bottom = 40 + max(panel.height for *_, panel in panels)
    if all(result.half_open is not None for result in report.transports.values()):
        for mode, title in _FAULT_PANELS.items():
            panel = _fault(report, width, mode, ("websocket", "bare"))
            note = "sent at the top, received at the bottom; red: lost · ▴ noticed"
            title = f"The link {title.format(_with_unit(report.settings['cut']))}"
            panels.append((0, bottom + 14, title, note, panel))
            bottom += 14 + 40 + panel.height
    what = "Latency and idle cost of each transport, and the messages of two WebSockets on a failing link."
    svg = Svg(width + 2 * margin, 0, 0, "HTTP and WebSocket compared", what)
    svg.height = bottom + 2 * margin - 6
    svg.parts.append('<rect width="100%" height="100%" rx="14" fill="var(--surface)"/>')
    for x, y, title, note, panel in panels:
        svg.text(margin + x, margin + y + 13, title, "h")
        svg.text(margin + x + panel.width, margin + y + 13, note, "q", "end")
        place = f'transform="translate({margin + x:g} {margin + y + 36:g})"'
        svg.parts.append(f"<g {place}>{''.join(panel.parts)}</g>")
    return svg.render("overview", f"\n{read('colours.css')}\n{read('overview.css')}") + "\n"
