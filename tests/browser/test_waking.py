"""Tabs that were hidden, laptops that slept, pages that Chromium froze: back within 5 s, and no connection
that works is cut."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from heartwire.testing.server import ServerProcess, run_server
from tests.browser.cdp import Chromium, ChromiumPage
from tests.integration.wire import publish
from tests.js.runtime import PageRuntime, in_page
from tests.js.stories import TRANSPORTS

CLOCK = (Path(__file__).parent / "clock.js").read_text()

WITHIN_S = 5  # after a wake-up, a dead connection is noticed by then

BEGIN = """
  const { Weather } = await import("/demo/weather.js");
  globalThis.weather = new Weather(() => {});
  const { WebSocket, fetch } = weather;
  begin(undefined, { transports: [transport], WebSocket, fetch });
  globalThis.got = [];
  await client.subscribe("a", one => got.push(one.data)).ready;
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with run_server(engine="sqlite:///hw.db", folder=tmp_path) as server:
        yield server


@pytest.fixture
def page(server: ServerProcess, chromium: Chromium) -> Iterator[PageRuntime]:
    with in_page(chromium, server.url, is_network_bad=True) as page:
        page.run(CLOCK)
        yield page


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_tab_that_was_hidden_for_ten_minutes_has_kept_its_connection(
    server: ServerProcess, page: PageRuntime, transport: str
) -> None:
    """Chromium lets the timers of a tab that is hidden for long run once a minute; what the network brings is
    heard."""
    page.run(BEGIN + "clock.stop();", transport=transport)
    for minute in range(10):
        publish(server.url, "a", str(minute))
        page.run("clock.jump(60); await until(() => got.length > minute);", minute=minute)
    publish(server.url, "a", "back")
    closed = page.run(
        """clock.go();
           document.dispatchEvent(new Event("visibilitychange"));
           await until(() => got.length === 11 && client.state === "online", withinS);
           await client.close();
           return heard("close").filter(({ nextAttemptS }) => nextAttemptS >= 0);""",
        withinS=WITHIN_S,
    )
    assert closed == []
    assert page.run("return got;") == [*range(10), "back"]


@pytest.mark.slow
@pytest.mark.parametrize("monotonic", [True, False], ids=["all clocks", "wall clock"])
@pytest.mark.parametrize("dies", [False, True], ids=["alive", "dead"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_laptop_that_slept_for_a_night_is_back_within_5_s(
    server: ServerProcess, page: PageRuntime, transport: str, dies: bool, monotonic: bool
) -> None:
    page.run(
        BEGIN + 'clock.stop(); weather.strike("asleep", { sleepS: 1e6, option: dies });',
        transport=transport,
        dies=dies,
    )
    for n in range(3):
        publish(server.url, "a", str(n))
    closed = page.run(
        """clock.jump(8 * 3600, { monotonic });
           weather.wake();
           clock.go();
           await until(() => got.length === 3 && client.state === "online", withinS);
           await client.publish("a", "awake");
           await until(() => got.length === 4);
           await client.close();
           return heard("close").filter(({ nextAttemptS }) => nextAttemptS >= 0).map(({ wasOpen }) => wasOpen);""",
        monotonic=monotonic,
        withinS=WITHIN_S,
    )
    assert page.run("return got;") == [0, 1, 2, "awake"]
    is_replaced = dies and transport in (
        "websocket",
        "sse",
    )  # who polls asks anew, which is all the probe there is
    assert closed == [True] * is_replaced


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [False, True], ids=["", "restart"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_page_that_chromium_froze_is_back_within_5_s(
    server: ServerProcess, chromium: Chromium, transport: str, restarts: bool
) -> None:
    """Chromium drops a frozen page's WebSocket and says so as it wakes; a stream it drops without a word: the
    probe finds out."""
    with in_page(chromium, server.url, is_network_bad=True) as page:
        page.run(
            BEGIN + "globalThis.woken = 0; document.addEventListener('resume', () => woken++);",
            transport=transport,
        )
        assert isinstance(page.tab, ChromiumPage)
        page.tab.call("Page.setWebLifecycleState", state="frozen")
        for n in range(3):
            publish(server.url, "a", str(n))
        if restarts:
            server.restart()
        page.tab.call("Page.setWebLifecycleState", state="active")
        page.tab.until("got.length === 3 && client.state === 'online'", timeout_s=WITHIN_S)
        assert page.run("return woken;") == 1
        opened = page.run("return heard('open').length;")
        if transport in ("websocket", "sse"):
            assert opened == 2
        elif not restarts:
            assert opened == 1
        assert page.run("await client.close(); return got;") == [0, 1, 2]
