"""Browsers, each started once, when the first test needs it."""

from collections.abc import Iterator

import pytest

from tests.browser.bidi import Firefox
from tests.browser.cdp import Chromium
from tests.browser.page import Browser
from tests.browser.webdriver import WebKit


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    with Chromium.started() as browser:
        yield browser


@pytest.fixture(scope="session")
def firefox() -> Iterator[Firefox]:
    with Firefox.started() as browser:
        yield browser


@pytest.fixture(scope="session")
def webkit() -> Iterator[WebKit]:
    with WebKit.started() as browser:
        yield browser


@pytest.fixture(params=["chromium", "firefox", "webkit"])
def browser(request: pytest.FixtureRequest) -> Browser:
    """Each browser in turn."""
    found: Browser = request.getfixturevalue(request.param)
    return found
