"""A report as tables: for a terminal, and for the page."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from heartwire.compare.figures import Fault, Figure, Report, Result

__all__ = ["Column", "Table", "as_text", "headline", "number", "tables"]


class Column(NamedTuple):
    """``unit`` is never empty: what is counted has a unit too."""

    title: str
    unit: str


class Table(NamedTuple):
    """``rows``: the transport's name, its label, and a cell for each column."""

    name: str
    title: str
    caption: str
    columns: list[Column]
    rows: list[tuple[str, str, list[str]]]


Getter = Callable[[Result], Figure]


def number(value: float) -> str:
    """Three digits that count, and thousands apart."""
    size = abs(value)
    if size >= 99.95 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}" if size >= 0.01 else f"{value:.1g}"


def cell(figure: Figure) -> str:
    """A figure without its unit; where it has no value, why in a word or two."""
    if figure.value is None:
        return figure.note.partition(":")[0] or "–"
    return number(figure.value)


def _of(group: str, key: str) -> Getter:
    def get(result: Result) -> Figure:
        figures: dict[str, Figure] = getattr(result, group)
        return figures[key]

    return get


_NEWS: Final = (
    ("p50", "latency_p50"),
    ("p99", "latency_p99"),
    ("max", "latency_max"),
    ("late", "late"),
    ("lost", "lost"),
    ("doubled", "doubled"),
    ("of", "expected"),
)
_COST: Final = (
    ("up", "up"),
    ("down", "down"),
    ("headers", "headers"),
    ("payload", "payload"),
    ("handshake", "handshake"),
    ("requests", "requests"),
    ("connections", "connections"),
    ("server CPU", "server_cpu"),
)
_IDLE: Final = (
    ("up", "up"),
    ("down", "down"),
    ("handshake", "handshake"),
    ("headers", "headers"),
    ("payload", "payload"),
    ("control", "control"),
    ("happens", "exchanges"),
)
_FAULT: Final = (
    ("noticed after", "noticed"),
    ("first message", "back"),
    ("caught up", "caught_up"),
    ("lost", "lost"),
    ("doubled", "doubled"),
    ("of", "sent"),
)
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
"""Shorter, for the head of a column."""


def tables(report: Report) -> list[Table]:
    """All of them, in the order in which to read them."""
    found = [
        _table(
            report,
            "news",
            "How late the news is",
            "From the publisher's send to the subscriber's function; late is over 1 s.",
            [(title, _of("news", key)) for title, key in _NEWS],
        ),
        _table(
            report,
            "cost",
            "What a message costs",
            "TCP payload each way, and what both are made of; the handshake is paid once.",
            [(title, _of("cost", key)) for title, key in _COST],
        ),
        _table(
            report,
            "idle",
            "What a minute of silence costs",
            "One subscriber, nothing to say, default heartbeat and poll settings.",
            [(title, _of("idle", key)) for title, key in _IDLE],
        ),
    ]
    for name, title in (
        ("cut", "The link is cut for {}, and works again"),
        ("half_open", "The link goes silent for {}"),
    ):
        if all(getattr(result, name) is not None for result in report.transports.values()):
            found.append(_fault_table(report, name, title))
    return found


def _fault_table(report: Report, name: str, title: str) -> Table:
    def of(key: str) -> Getter:
        def get(result: Result) -> Figure:
            fault: Fault = getattr(result, name)
            figure: Figure = getattr(fault, key)
            return figure

        return get

    caption = {
        "cut": "Connections are reset and new ones refused.",
        "half_open": (
            "Nothing passes, nobody is told; after that new connections work and old ones stay dead."
        ),
    }[name]
    caption += " First message and caught up: counted from when the link works again. Medians."
    title = title.format(f"{number(report.settings['cut'].value or 0)} {report.settings['cut'].unit}")
    return _table(report, name, title, caption, [(head, of(key)) for head, key in _FAULT])


def _table(report: Report, name: str, title: str, caption: str, columns: list[tuple[str, Getter]]) -> Table:
    first = next(iter(report.transports.values()))
    heads = [Column(head, _UNITS.get(get(first).unit, get(first).unit)) for head, get in columns]
    rows = [
        (key, result.label, [cell(get(result)) for _, get in columns])
        for key, result in report.transports.items()
    ]
    return Table(name, title, caption, heads, rows)


def headline(report: Report) -> str:
    """What was compared, in a line."""
    said = {name: f"{number(figure.value or 0)} {figure.unit}" for name, figure in report.settings.items()}
    where = f"against {report.server}" if report.server else "servers and clients on one machine"
    return (
        f"{said['rate']} of {said['size']} for {said['seconds']}, to {said['subscribers']} of each transport;"
        f" {where}."
    )


def as_text(report: Report) -> str:
    """All tables, the check and the notes, for a terminal."""
    lines = [
        f"HTTP and WebSocket, measured side by side (Heartwire {report.heartwire}, {report.when})",
        headline(report),
        "",
    ]
    for table in tables(report):
        lines += [table.title, *_drawn(table), f"  {table.caption}", ""]
    difference = report.check["difference"]
    counted = (
        ""
        if difference.value is None
        else f"; the kernel's count differs by {difference.value:g} {difference.unit}"
    )
    lines.append(f"Proxies counted {number(report.check['counted_by_proxies'].value or 0)} B{counted}.")
    lines += [f"* {note}" for note in report.notes]
    lines.append(f"It took {number(report.check['took'].value or 0)} s.")
    return "\n".join(lines) + "\n"


def _drawn(table: Table) -> Iterable[str]:
    cells = [
        ["", *(column.title for column in table.columns)],
        ["", *(column.unit for column in table.columns)],
    ]
    cells += [[label, *row] for _, label, row in table.rows]
    widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]))]
    for number_of, row in enumerate(cells):
        first, *rest = row
        yield "  " + "  ".join(
            [
                first.ljust(widths[0]),
                *(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)),
            ]
        )
        if number_of == 1:
            yield "  " + "-" * (sum(widths) + 2 * (len(widths) - 1))
