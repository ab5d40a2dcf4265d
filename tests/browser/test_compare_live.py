"""The demo page's live comparison, against a real server: what it counts, that it ends, and that nothing of
it stays."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from heartwire.testing.server import run_server
from tests.browser.cdp import Chromium
from tests.browser.page import Page

KINDS = ("poll", "longpoll", "sse", "websocket")
FIGURES = ("received", "lost", "doubled", "p50", "max", "requests", "down", "up")
SECONDS = 2
MESSAGES = 10

PHASE = "document.querySelector('#compare-live')?.dataset.phase"

# What the page opens from here on: sockets, and requests that are not over. The demo's own client has its
# socket by then.
WATCH = """{
  globalThis.opened = [];
  globalThis.asking = new Set();
  const { WebSocket, fetch } = globalThis;
  globalThis.WebSocket = class extends WebSocket {
    constructor(...given) { super(...given); opened.push(this); }
  };
  globalThis.fetch = async (address, options) => {
    const over = () => asking.delete(options);
    asking.add(options);
    options.signal.addEventListener("abort", over);
    try {
      const response = await fetch(address, options);
      if (!/sse$/.test(address)) over();
      return response;
    } catch (error) {
      over();
      throw error;
    }
  };
}"""

CELLS = """[...document.querySelectorAll("#compare-live [data-figure]")].map(cell => [cell.dataset.kind, cell.dataset.figure,
  cell.innerText.trim(), cell.closest("tr").querySelector("th small").textContent])"""

OVERFLOWING = """[document.documentElement, ...document.querySelectorAll("#compare-live, #compare-live *:not(svg *, .sr)")]
  .filter(one => one.scrollWidth > one.clientWidth + 1 && one.clientWidth).map(one => one.outerHTML.slice(0, 80))"""

COLLIDING = """[...document.querySelectorAll("#compare-live svg text")].flatMap((one, at, all) =>
  all.slice(at + 1).filter(other => {
  const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
  return a.width && b.width && a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom;
}).map(other => `${one.textContent} | ${other.textContent}`))"""


@pytest.fixture
def page(chromium: Chromium) -> Iterator[Page]:
    """The page, online. Nothing may be on its console at the end."""
    with run_server() as server, chromium.page() as page:
        page.resize(1280, 900)
        page.goto(f"{server.url}/?compare-seconds={SECONDS}#channel=demo")
        page.until("document.querySelector('#state').textContent === 'online, WebSocket'")
        page.evaluate(WATCH)
        yield page
        assert page.complaints == []


def _click(page: Page, selector: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def _figures(page: Page) -> dict[str, dict[str, float]]:
    """By transport and name. Each has its unit beside its name."""
    found: dict[str, dict[str, float]] = {}
    for kind, figure, text, unit in page.evaluate(CELLS):
        assert unit in ("messages", "ms", "count", "B"), figure
        found.setdefault(kind, {})[figure] = float(text.replace(",", ""))
    assert {kind: tuple(figures) for kind, figures in found.items()} == dict.fromkeys(KINDS, FIGURES)
    return found


def _nothing_is_open(page: Page) -> None:
    """But the demo's own socket, which was open before."""
    page.until("opened.every(socket => socket.readyState === WebSocket.CLOSED) && asking.size === 0")


@pytest.mark.slow
def test_every_transport_gets_every_message_once(page: Page) -> None:
    _click(page, "#weather [value=offline]")  # not on their way
    page.evaluate("opened.length = 0")
    _click(page, "#compare")
    page.until(f"{PHASE} === 'done'")
    figures = _figures(page)
    for kind in KINDS:
        found = figures[kind]
        assert (found["received"], found["lost"], found["doubled"]) == (MESSAGES, 0, 0), kind
        assert 0 < found["p50"] <= found["max"], kind
        assert found["down"] > MESSAGES * len('{"n":1,"sent_ms":1}'), kind
    assert figures["websocket"]["requests"] == 1
    assert 1 <= figures["sse"]["requests"] < MESSAGES
    assert figures["longpoll"]["requests"] >= MESSAGES
    assert SECONDS <= figures["poll"]["requests"] <= SECONDS + 6
    assert figures["websocket"]["p50"] < figures["poll"]["p50"]
    assert page.evaluate("opened.length") == 2, "a WebSocket that follows, and the publisher's"
    assert page.evaluate("document.querySelectorAll('#compare-live .came').length") >= len(KINDS) * MESSAGES
    assert "Nothing was lost or doubled" in page.evaluate(
        "document.querySelector('#compare-live [role=status]').textContent"
    )
    _nothing_is_open(page)


@pytest.mark.slow
def test_it_is_stopped_and_never_runs_twice(page: Page) -> None:
    _click(page, "#compare")
    _click(page, "#compare")
    page.until(f"{PHASE} === 'publishing'")
    assert page.evaluate("opened.length") == 2, "one run's"
    _click(page, "#compare-live .progress button")
    page.until(f"{PHASE} === 'stopped'")
    assert "Stopped after" in page.evaluate("document.querySelector('#compare-live').innerText")
    _nothing_is_open(page)

    _click(page, "#compare-live .progress button")
    page.until(f"{PHASE} === 'publishing'")
    page.evaluate("document.querySelector('#compare-live').close()")
    page.until(f"{PHASE} === 'stopped'")
    _nothing_is_open(page)

    _click(page, "#compare")
    page.until(f"{PHASE} === 'publishing'")
    page.evaluate(
        "document.querySelector('#compare-live').close(); document.querySelector('#compare').click()"
    )  # no reason to stop
    page.until(f"{PHASE} === 'done'")
    assert [_figures(page)[kind]["received"] for kind in KINDS] == [MESSAGES] * len(KINDS)
    assert page.evaluate("opened.length") == 6, "three runs' in all"
    _nothing_is_open(page)


@pytest.mark.slow
def test_a_transport_that_cannot_be_had_is_left_out_and_named(page: Page) -> None:
    page.evaluate("""{ const { fetch } = globalThis;
      globalThis.fetch = async (address, options) => {
        if (/sse$/.test(address)) throw new TypeError("a proxy is in the way");
        return fetch(address, options);
      }; }""")
    _click(page, "#compare")
    page.until(f"{PHASE} === 'done'")
    cells: Any = page.evaluate(CELLS)
    assert {kind for kind, _, text, _ in cells if text == "–"} == {"sse"}
    assert "SSE could not be followed from here: a proxy is in the way." in page.evaluate(
        "document.querySelector('#compare-live [role=status]').textContent"
    )
    _nothing_is_open(page)


@pytest.mark.slow
def test_it_fits_phones_and_desktops(page: Page) -> None:
    _click(page, "#compare")
    page.until(f"{PHASE} === 'done'")
    for width in (320, 390, 1280):
        page.resize(width, 900)
        page.until(f"innerWidth === {width}")
        assert page.evaluate(OVERFLOWING) == [], width
        assert page.evaluate(COLLIDING) == [], width


@pytest.mark.slow
def test_the_full_comparison_is_served_beside_it(page: Page) -> None:
    address = page.evaluate("document.querySelector('#compare-live a, .compare a').href")
    page.goto(address)
    assert page.evaluate("document.querySelectorAll('svg.plot').length") >= 4
