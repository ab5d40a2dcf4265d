"""The pages under their Content-Security-Policy: nothing of theirs is stopped, on a phone and on a desktop."""

from collections.abc import Iterator

import pytest

from heartwire.testing.server import ServerProcess, run_server
from tests.browser.cdp import Chromium


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with run_server() as server:
        yield server


@pytest.mark.slow
def test_pages_keep_to_their_policy(server: ServerProcess, chromium: Chromium) -> None:
    with chromium.page() as page:
        for width in (390, 1280):
            page.resize(width, 900)
            page.goto(f"{server.url}/")
            page.until("document.body.dataset.state === 'online'")
            page.goto(f"{server.url}/compare.html")
            ground = "getComputedStyle(document.body).backgroundColor"
            assert page.evaluate(ground) != "rgba(0, 0, 0, 0)", "the inline style was stopped"
        assert page.complaints == []
