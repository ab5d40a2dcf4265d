"""The demo page, used as a person would, against a real server."""

import pytest

from heartwire import connect_sync
from heartwire.testing.server import run_server
from tests.browser.cdp import Page, open_page

TRANSPORTS = ("websocket", "sse", "longpoll", "poll")


def publish(url: str, channel: str, text: str) -> None:
    with connect_sync(url) as client:
        client.publish(channel, text)


def _say(page: Page, text: str) -> None:
    page.evaluate(f"document.querySelector('#composer-text').value = {text!r}; document.querySelector('#composer').requestSubmit()")


def _seen(page: Page) -> str:
    return str(page.evaluate("document.querySelector('#list').innerText"))


def _online(page: Page, transport: str) -> None:
    page.evaluate(f"document.querySelector('#transports input[value={transport}]').click()")
    page.until("document.querySelector('#state-text').textContent.toLowerCase().includes('online')")


@pytest.mark.slow
def test_chat_goes_on_over_every_transport_and_through_a_cut() -> None:
    with run_server() as server, open_page() as page:
        page.resize(1280, 900)
        page.goto(f"{server.url}/#channel=demo")
        for transport in TRANSPORTS:
            _online(page, transport)
            _say(page, f"by {transport}")
            page.until(f"document.querySelector('#list').innerText.includes('by {transport}')")
            publish(server.url, "demo", f"from outside during {transport}")
            page.until(f"document.querySelector('#list').innerText.includes('from outside during {transport}')")

        _online(page, "websocket")
        page.evaluate("document.querySelector('#cut').click()")
        page.until("document.querySelector('#state-text').textContent.toLowerCase().includes('offline')")
        for number in range(3):
            publish(server.url, "demo", f"missed {number}")
        page.evaluate("document.querySelector('#cut').click()")
        page.until("document.querySelector('#list').innerText.includes('missed 2')")

        said = [line for line in _seen(page).splitlines() if line.startswith(("by ", "from outside", "missed"))]
        expected = [text for name in TRANSPORTS for text in (f"by {name}", f"from outside during {name}")]
        assert said == [*expected, "missed 0", "missed 1", "missed 2"]
        assert page.evaluate("document.querySelector('#n-duplicates').textContent") == "0"
        assert page.complaints == []
