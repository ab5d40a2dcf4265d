"""The comparison as one page that needs nothing but itself: `page.html`, with the figures and plots of a run
put in.

In the template ``{{name}}`` is what `Facts`, a plot or a table says; ``[[…]]`` is left out where a name in it
says nothing, and a section with ``data-needs`` where there is no such plot.
"""

import re
from functools import partial
from html import escape
from pathlib import Path
from typing import Final

from heartwire.compare.facts import Facts
from heartwire.compare.figures import Report
from heartwire.compare.plots import COLOURS, PLOTS
from heartwire.compare.report import Table, tables

__all__ = ["page"]

_WIDE: Final = 740
_NARROW: Final = 300

_SECTION: Final = re.compile(
    r'<section id="([\w-]+)"(?: data-needs="(\w+)")?><h2>(.*?)</h2>.*?</section>\n', re.DOTALL
)
_OPTIONAL: Final = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_NAME: Final = re.compile(r"\{\{([^}]+)\}\}")


def page(report: Report) -> str:
    """The whole page."""
    folder = Path(__file__).parent
    known = {f"table {table.name}": table_html(table) for table in tables(report)}
    known |= {
        f"plot {name}": plot_html(report, name)
        for name in PLOTS
        if name not in ("cut", "half_open") or f"table {name}" in known
    }
    template = _SECTION.sub(
        lambda found: found[0] if not found[2] or f"plot {found[2]}" in known else "",
        _read(folder / "page.html"),
    )
    links = (f'<li><a href="#{found[1]}">{found[3]}</a></li>' for found in _SECTION.finditer(template))
    known |= {"contents": "".join(links), "style": COLOURS + _read(folder / "page.css")}
    facts = Facts(report)

    def value(name: str) -> str:
        return known[name] if name in known else facts[name]

    return _NAME.sub(lambda found: value(found[1]), _OPTIONAL.sub(partial(_optional, value=value), template))


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _optional(found: re.Match[str], value: object) -> str:
    assert callable(value)
    return found[1] if all(value(name) for name in _NAME.findall(found[1])) else ""


def plot_html(report: Report, name: str) -> str:
    """Twice: for a phone, and for all else. Letters in a picture that is scaled are too small or too
    large."""
    wide, narrow = (PLOTS[name](report, width).render(f"{name}-{width}") for width in (_WIDE, _NARROW))
    return f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'


def table_html(table: Table) -> str:
    """A table that scrolls sideways by itself where there is no room."""
    heads = (
        f'<th scope="col">{escape(column.title)} <small>{escape(column.unit)}</small></th>'
        for column in table.columns
    )
    rows = []
    for name, label, cells in table.rows:
        first = f'<th scope="row"><span class="dot t-{name}"></span>{escape(label)}</th>'
        rows.append(f"<tr>{first}{''.join(f'<td>{escape(text)}</td>' for text in cells)}</tr>")
    id = f"caption-{table.name}"
    return (
        f'<p class="caption" id="{id}"><b>{escape(table.title)}.</b> {escape(table.caption)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{id}">'
        f'<table class="figures" aria-labelledby="{id}"><thead><tr><th'
        f' scope="col">transport</th>{"".join(heads)}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
