"""Every figure has its unit, in JSON and in tables; and the page holds for every kind of run."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from heartwire.compare.figures import decode, encode
from heartwire.compare.page import page
from heartwire.compare.plan import KINDS, Plan, check_plan, message, read_message
from heartwire.compare.plots import PLOTS, overview
from heartwire.compare.report import as_text, number, tables
from heartwire.errors import ConfigError
from tests.unit.compare.reports import COUNT, made_report

PLANS = {
    "its own servers": Plan(),
    "a url": Plan("http://example.org:8000"),
    "tls": Plan("https://example.org"),
    "no faults": Plan(cut_s=0),
    "a token": Plan(token="secret"),
}
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)


def numbers_without_unit(value: Any, path: str = "") -> Iterator[str]:
    """Where a number, or a list of them, does not stand beside a unit."""
    match value:
        case {"value": None | int() | float(), "unit": str(unit)} if unit:
            pass
        case {"values": [*values], "unit": str(unit)} if unit and all(
            isinstance(one, int | float) for one in values
        ):
            pass
        case dict():
            for key, inner in value.items():
                yield from numbers_without_unit(inner, f"{path}/{key}")
        case list():
            for index, inner in enumerate(value):
                yield from numbers_without_unit(inner, f"{path}/{index}")
        case bool() | int() | float():
            yield path


@every_plan
def test_every_number_has_its_unit(plan: Plan) -> None:
    report = made_report(plan)
    assert list(numbers_without_unit(msgspec.json.decode(encode(report)))) == []
    assert list(numbers_without_unit({"a": [{"value": 1}], "b": {"value": 1, "unit": ""}})) == [
        "/a/0/value",
        "/b/value",
    ]
    for table in tables(report):
        assert all(column.title and column.unit for column in table.columns), table.title
        assert [name for name, _, _ in table.rows] == [kind.name for kind in KINDS]
        assert all(len(cells) == len(table.columns) and all(cells) for _, _, cells in table.rows)


@every_plan
def test_what_is_written_is_read(plan: Plan) -> None:
    report = made_report(plan)
    assert decode(encode(report)) == report
    with pytest.raises(ValueError, match="required field"):
        decode(b"{}")


def test_the_table_says_units_below_each_head() -> None:
    lines = as_text(made_report()).splitlines()
    at = lines.index("Cost of a message")
    assert lines[at + 1].split() == [
        "up",
        "down",
        "headers",
        "payload",
        "handshake",
        "requests",
        "connections",
        "server",
        "CPU",
    ]
    assert lines[at + 2].split() == [
        "B/msg",
        "B/msg",
        "B/msg",
        "B/msg",
        "B,",
        "once",
        "/msg",
        "/1000",
        "msgs",
        "µs/msg",
    ]
    assert "not measured" in as_text(made_report(has_cpu=False))


def test_what_a_failing_link_did() -> None:
    report = made_report()
    ours, bare = report.transports["websocket"].half_open, report.transports["bare"].half_open
    assert ours is not None
    assert bare is not None
    assert (ours.noticed.value, ours.caught_up.value, ours.lost.value) == (0.5, 0.5, 0)
    assert (bare.noticed.value, bare.caught_up.value, bare.lost.value) == (None, None, COUNT - 20)
    assert (bare.noticed.note, bare.caught_up.note) == ("not within 10 s", "never: what was missed is lost")
    assert len(bare.missing.values) == COUNT - 20


class Links(HTMLParser):
    """What a page would fetch, and its ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.ids: list[str] = []
        self.inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("src", "href") and value:
                (self.inside if value.startswith("#") else self.outside).append(value)
        assert tag != "script"


@every_plan
def test_page_is_whole_and_needs_nothing_else(plan: Plan) -> None:
    text = page(made_report(plan, has_cpu=not plan.url))
    links = Links(text)
    assert [link for link in links.outside if not link.startswith("data:")] == []
    assert not re.search(r"url\(|@import", text)
    assert len(links.ids) == len(set(links.ids))
    assert {link[1:] for link in links.inside} <= set(links.ids)
    assert not re.search(r"\{\{|\}\}|\[\[|\]\]", text.replace('{"', "").replace("}}", "}"))
    assert "None" not in text
    assert ("half-open" in links.ids) == bool(plan.cut_s)
    assert "secret" not in text


def test_sentences_without_figures_are_left_out() -> None:
    assert "<strong>Loss:</strong>" in page(made_report())
    assert "<strong>Loss:</strong>" not in page(made_report(Plan(cut_s=0)))
    assert "µs</b> of CPU over WebSocket" in page(made_report())
    assert "of CPU over WebSocket" not in page(made_report(has_cpu=False))


@every_plan
def test_plots_are_images_with_a_title(plan: Plan) -> None:
    report = made_report(plan)
    drawn = [
        draw(report, width).render("a")
        for name, draw in PLOTS.items()
        if plan.cut_s or name not in ("cut", "half_open")
        for width in (300, 740)
    ]
    for image in [*drawn, overview(report)]:
        root = ElementTree.fromstring(image)
        found = {child.tag.rpartition("}")[2]: child for child in root}
        assert found["title"].text
        assert found["desc"].text
        assert "nan" not in image


def test_numbers_have_three_digits_that_count() -> None:
    assert [number(value) for value in (0, 5, 0.0049, 0.01234, 1.234, 12.34, 99.96, 1234.5)] == [
        "0",
        "5",
        "0.005",
        "0.01",
        "1.23",
        "12.3",
        "100",
        "1,234",
    ]


# -- plans ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (Plan(rate_per_s=0), "--rate = 0: 0.1 to 200 messages a second"),
        (
            Plan("http://a", rate_per_s=50),
            "--rate = 50: 0.1 to 20 messages a second against a URL, which may be somebody else's",
        ),
        (
            Plan(rate_per_s=100, subscribers=10),
            "--rate = 100: with 10 subscribers at most 20: above 200 deliveries a second it measures itself",
        ),
        (Plan(subscribers=0), "--subscribers = 0: 1 to 100 for each transport"),
        (Plan(size_bytes=10), "--size = 10: 48 to 65536 bytes"),
        (Plan(seconds=0), "--seconds = 0: 1 to 600 seconds"),
        (Plan(cut_s=-1), "--cut = -1: 0 to 60 seconds; 0 leaves these runs out"),
        (
            Plan("example.org"),
            (
                "URL = 'example.org': as in http://127.0.0.1:8000; or leave it out, and servers are started"
                " for it"
            ),
        ),
    ],
)
def test_plans_that_cannot_be_are_named(plan: Plan, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_plan(plan)
    assert str(refused.value) == told


def test_messages_are_as_long_as_asked_for() -> None:
    for size in (48, 64, 1000):
        text = msgspec.json.encode(message(123, 4_567_890_123, size)).decode()
        assert (len(text), read_message(text)) == (size, (123, 4_567_890_123))
    with pytest.raises(ValueError, match="is not a message of this comparison"):
        read_message('{"other": 1}')
