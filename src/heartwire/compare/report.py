"""A report as tables, for a terminal and for the page."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from heartwire.compare.figures import Figure, Report

__all__ = ["Column", "Table", "as_text", "cell", "headline", "number", "tables"]


class Column(NamedTuple):
    """``unit`` is never empty: counts have a unit too."""

    title: str
    unit: str


class Table(NamedTuple):
    """``rows``: the transport's name, its label, and a cell for each column."""

    name: str
    title: str
    caption: str
    columns: list[Column]
    rows: list[tuple[str, str, list[str]]]


_AFTER: Final = "First message and caught up: counted from when the link works again. Medians."
_FAULT: Final = "noticed after=noticed, first message=back, caught up=caught_up, lost, doubled, of=sent"
_TABLES: Final = {
    "news": (
        "Latency",
        "From the publisher's send to the subscriber's function; late is over 1 s.",
        "p50=latency_p50, p99=latency_p99, max=latency_max, late, lost, doubled, of=expected",
    ),
    "cost": (
        "Cost of a message",
        "TCP payload each way, and the parts of both; the handshake is paid once.",
        "up, down, headers, payload, handshake, requests, connections, server CPU=server_cpu",
    ),
    "idle": (
        "Cost of an idle minute",
        "One subscriber without messages, default heartbeat and poll settings.",
        "up, down, handshake, headers, payload, control, exchanges",
    ),
    "cut": (
        "The link is cut for {cut}, and works again",
        f"Connections are reset and new ones refused. {_AFTER}",
        _FAULT,
    ),
    "half_open": (
        "The link goes silent for {cut}",
        f"Nothing passes, and nothing reports it; then new connections work and old ones stay dead. {_AFTER}",
        _FAULT,
    ),
}
"""By the group of `Result`: title, caption, and columns as ``title=key``, or ``key`` alone."""

_UNITS: Final = {
    "messages": "msgs",
    "B/message": "B/msg",
    "B/subscriber": "B, once",
    "requests/message": "/msg",
    "connections/1000 messages": "/1000 msgs",
    "µs/message": "µs/msg",
    "B/minute": "B/min",
    "exchanges/minute": "times/min",
}
"""Short forms for the head of a column."""


def number(value: float) -> str:
    """Three significant digits, with a comma between thousands."""
    size = abs(value)
    if size >= 99.95 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}" if size >= 0.01 else f"{value:.1g}"


def cell(figure: Figure) -> str:
    """A figure without its unit; without a value, the reason in a word or two."""
    if figure.value is None:
        return figure.note.partition(":")[0] or "–"
    return number(figure.value)


def tables(report: Report) -> list[Table]:
    """All tables of a report, in reading order."""
    names = [name for name in _TABLES if all(getattr(one, name) for one in report.transports.values())]
    return [_table(report, name) for name in names]


def _table(report: Report, name: str) -> Table:
    title, caption, columns = _TABLES[name]
    keys = {head: key or head for head, _, key in (one.partition("=") for one in columns.split(", "))}
    first = next(iter(report.transports.values()))
    units = {head: first.figure(name, key).unit for head, key in keys.items()}
    rows = [
        (transport, result.label, [cell(result.figure(name, key)) for key in keys.values()])
        for transport, result in report.transports.items()
    ]
    cut = report.settings.get("cut", Figure(None, ""))
    title = title.format(cut=f"{number(cut.value or 0)} {cut.unit}")
    heads = [Column(head, _UNITS.get(unit, unit)) for head, unit in units.items()]
    return Table(name, title, caption, heads, rows)


def headline(report: Report) -> str:
    """A line that says what was compared."""
    said = {name: f"{number(figure.value or 0)} {figure.unit}" for name, figure in report.settings.items()}
    messages = f"{said['rate']} of {said['size']} for {said['seconds']}"
    where = f"against {report.server}" if report.server else "servers and clients on one machine"
    return f"{messages}, to {said['subscribers']} of each transport; {where}."


def as_text(report: Report) -> str:
    """All tables, the check and the notes, for a terminal."""
    title = f"HTTP and WebSocket, measured side by side (Heartwire {report.heartwire}, {report.when})"
    lines = [title, headline(report), ""]
    for table in tables(report):
        lines += [table.title, *_drawn(table), f"  {table.caption}", ""]
    difference, counted = report.check["difference"], report.check["counted_by_proxies"]
    by_kernel = ""
    if difference.value is not None:
        by_kernel = f"; the kernel's count differs by {difference.value:g} {difference.unit}"
    lines.append(f"Proxies counted {number(counted.value or 0)} B{by_kernel}.")
    lines += [f"* {note}" for note in report.notes]
    lines.append(f"It took {number(report.check['took'].value or 0)} s.")
    return "\n".join(lines) + "\n"


def _drawn(table: Table) -> Iterable[str]:
    heads = [[column.title for column in table.columns], [column.unit for column in table.columns]]
    cells = [["", *row] for row in heads] + [[label, *row] for _, label, row in table.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for at, (first, *rest) in enumerate(cells):
        right = (text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))
        yield "  " + "  ".join([first.ljust(widths[0]), *right])
        if at == 1:
            yield "  " + "-" * (sum(widths) + 2 * (len(widths) - 1))
