"""The comparison as one self-contained page: `page.html`, with the figures, tables and plots of a run."""

import re
from typing import Final

from heartwire.compare.facts import Facts
from heartwire.compare.figures import Report
from heartwire.compare.plots import PLOTS
from heartwire.compare.report import Table, tables
from heartwire.compare.template import Html, fill, join, part, read

__all__ = ["page"]

_WIDTHS: Final = {"wide": 740, "narrow": 300}
_SECTION: Final = re.compile(
    r'<section id="([\w-]+)"(?: data-needs="(\w+)")?><h2>(.*?)</h2>.*?</section>\n', re.DOTALL
)


def page(report: Report) -> str:
    """The whole page. A section with ``data-needs`` is left out where there is no such table."""
    known = {f"table {table.name}": table_html(table) for table in tables(report)}
    plots = [name for name in PLOTS if name not in ("cut", "half_open") or f"table {name}" in known]
    known |= {f"plot {name}": plot_html(report, name) for name in plots}

    def section(found: re.Match[str]) -> str:
        return found[0] if not found[2] or f"plot {found[2]}" in known else ""

    text = _SECTION.sub(section, read("page.html"))
    links = (part("contents", id=found[1], title=Html(found[3])) for found in _SECTION.finditer(text))
    known |= {"contents": join(links), "style": Html(f"\n{read('colours.css')}{read('page.css')}")}
    facts = Facts(report)
    return fill(text, lambda name: known[name] if name in known else facts[name])


def plot_html(report: Report, name: str) -> Html:
    """A plot twice, for a phone and for all else: scaling spoils its letters."""
    drawn = {key: PLOTS[name](report, width).render(f"{name}-{width}") for key, width in _WIDTHS.items()}
    return part("plot", **{key: Html(svg) for key, svg in drawn.items()})


def table_html(table: Table) -> Html:
    """A table that scrolls sideways by itself where there is no room."""
    rows = [
        part("table row", name=name, label=label, cells=join(part("table cell", text=text) for text in cells))
        for name, label, cells in table.rows
    ]
    heads = join(part("table head", title=column.title, unit=column.unit) for column in table.columns)
    values = {"name": table.name, "title": table.title, "caption": table.caption}
    return part("table", **values, heads=heads, rows=join(rows))
