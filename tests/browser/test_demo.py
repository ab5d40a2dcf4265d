"""The demo page, used as a person would, against a real server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from heartwire import connect_sync
from heartwire.testing.server import ServerProcess, run_server
from tests.browser.cdp import Chromium
from tests.browser.page import Page

TRANSPORTS = {"websocket": "WebSocket", "sse": "SSE", "longpoll": "Long poll", "poll": "Poll"}


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with run_server() as server:
        yield server


@pytest.fixture
def page(server: ServerProcess, chromium: Chromium) -> Iterator[Page]:
    """The page, online in channel `demo`. Nothing may be on its console at the end."""
    with chromium.page() as page:
        page.resize(1280, 900)
        page.goto(f"{server.url}/#channel=demo")
        _online(page, "WebSocket")
        yield page
        assert page.complaints == []


def publish(url: str, channel: str, text: str) -> None:
    with connect_sync(url) as client:
        client.publish(channel, text)


def _click(page: Page, selector: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def _say(page: Page, text: str) -> None:
    page.evaluate(
        f"document.querySelector('#composer-text').value = {text!r};"
        " document.querySelector('#composer').requestSubmit()"
    )


def _seen(page: Page, text: str) -> None:
    page.until(f"document.querySelector('#list').innerText.includes({text!r})")


def _online(page: Page, label: str, *, timeout_s: float = 20) -> None:
    condition = f"document.querySelector('#state').textContent === 'online, {label}'"
    page.until(condition, timeout_s=timeout_s)


def _figure(page: Page, name: str) -> int:
    return int(page.evaluate(f"document.querySelector('#n-{name}').textContent"))


def _more_come(page: Page, count: int) -> None:
    """Wait until the tally has received so many more."""
    goal = _figure(page, "received") + count
    page.until(f"+document.querySelector('#n-received').textContent >= {goal}")


def _nothing_was_lost(page: Page) -> None:
    """Stop publishing, wait for the last answers, and look at the tally."""
    _click(page, "#tally:checked")
    figure = "document.querySelector('#n-%s').textContent"
    page.until(" && ".join(f"{figure % 'sent'} === {figure % name}" for name in ("acknowledged", "received")))
    assert _figure(page, "sent") > 0
    assert {name: _figure(page, name) for name in ("lost", "doubled", "swapped", "gaps", "pending")} == {
        "lost": 0,
        "doubled": 0,
        "swapped": 0,
        "gaps": 0,
        "pending": 0,
    }


@pytest.mark.slow
def test_chat_goes_on_over_every_transport_and_through_a_cut(page: Page, server: ServerProcess) -> None:
    for transport, label in TRANSPORTS.items():
        _click(page, f"#transports input[value={transport}]")
        _online(page, label)
        _say(page, f"by {transport}")
        _seen(page, f"by {transport}")
        publish(server.url, "demo", f"from outside during {transport}")
        _seen(page, f"from outside during {transport}")

    _click(page, "#transports input[value=auto]")
    _online(page, "WebSocket")
    assert page.evaluate("location.hash") == "#channel=demo&transport=auto"
    _click(page, "#cut")
    page.until("document.querySelector('#state-text').textContent === 'offline'")
    _say(page, "written while away")
    for number in range(3):
        publish(server.url, "demo", f"missed {number}")
    assert page.evaluate("document.querySelector('#pending').innerText.includes('waits for the connection')")
    _click(page, "#cut")
    _seen(page, "written while away")

    lines = str(page.evaluate("document.querySelector('#list').innerText")).splitlines()
    said = [line for line in lines if line.startswith(("by ", "from outside", "missed", "written"))]
    expected = [text for name in TRANSPORTS for text in (f"by {name}", f"from outside during {name}")]
    assert said == [*expected, "missed 0", "missed 1", "missed 2", "written while away"]


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_the_client_finds_its_way_down_and_up_the_ladder_and_loses_nothing(page: Page) -> None:
    _click(page, "#tally")
    for weather, label in (
        ("websocket", "SSE"),
        ("sse", "Long poll"),
        ("longpoll", "Long poll"),
        ("clear", "WebSocket"),
    ):
        _click(page, f"#weather [value={weather}]")
        _online(page, label, timeout_s=20 if weather == "clear" else 10)
        _more_come(page, 20)
        page.until(f"document.querySelector('#ladder .used').textContent === '{label}in use'")
        if weather == "sse":
            assert page.evaluate("document.querySelectorAll('#ladder .failed').length") == 2
    assert "moved up" in page.evaluate("document.querySelector('#log').innerText")
    _nothing_was_lost(page)


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_breaks_connections_loses_nothing(page: Page, transport: str) -> None:
    _click(page, f"#transports input[value={transport}]")
    _online(page, TRANSPORTS[transport])
    _click(page, "#tally")
    _more_come(page, 5)
    page.evaluate("for (const box of document.querySelectorAll('#strikes input')) box.checked = true")
    for strike in ("cut", "halfopen"):
        _click(page, f"#strikes [value={strike}]")
        _more_come(page, 10)
    for weather in ("offline", "slow", "clear"):
        _click(page, f"#weather [value={weather}]")
        if weather == "offline":
            page.until("document.querySelector('#state-text').textContent === 'offline'")
        else:
            _online(page, TRANSPORTS[transport])
            _more_come(page, 10)
    _nothing_was_lost(page)


@pytest.mark.slow
@pytest.mark.parametrize("dies", [False, True])
def test_a_page_that_has_slept_is_back_within_5_s(page: Page, dies: bool) -> None:
    _click(page, "#tally")
    _more_come(page, 5)
    if dies:
        _click(page, "#strikes li:last-child input")
    _click(page, "#strikes [value=asleep]")
    log = "document.querySelector('#log').innerText"
    page.until(f"{log}.includes('Awake')")
    found = f"{log}.split('Awake')[1].includes('{'Online by' if dies else 'Asked the server'}')"
    page.until(found, timeout_s=5)
    _more_come(page, 10)
    after = str(page.evaluate(log)).split("Awake")[1]
    assert ("Lost" in after, "Online by" in after) == (dies, dies)
    _nothing_was_lost(page)


@pytest.mark.slow
def test_everything_fits_on_a_phone(page: Page) -> None:
    for width in (320, 390):
        page.resize(width, 640)
        page.until(f"innerWidth === {width}")
        for view in ("chat", "weather", "client", "more"):
            _click(page, f".views [data-view={view}]")
            assert page.evaluate("document.documentElement.scrollWidth") == width, view
            assert page.evaluate(_OVERFLOWING) == [], (width, view)


_OVERFLOWING: Any = """[...document.querySelectorAll("button, .chips span, .segments span, .tiles dt, .tiles dd")]
  .filter(one => one.scrollWidth > one.clientWidth + 1 && one.clientWidth && !one.classList.contains("sr"))
  .map(one => one.textContent)"""
