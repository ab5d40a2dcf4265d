"""heartwire.js in each browser: in a page and in a worker, as the server gives it."""

import pytest

from heartwire.testing.server import run_server
from tests.browser.page import Browser
from tests.js.runtime import in_page, in_worker
from tests.js.stories import THROWING, TRANSPORTS, check_throwing, talks


@pytest.mark.slow
def test_talks_in_a_page_over_every_transport(browser: Browser) -> None:
    with run_server() as server, in_page(browser, server.url) as page:
        for transport in TRANSPORTS:
            talks(page, server, transport)


@pytest.mark.slow
def test_talks_in_a_worker_over_every_transport(browser: Browser) -> None:
    with run_server() as server, in_worker(browser, server.url) as worker:
        for transport in TRANSPORTS:
            talks(worker, server, transport)


@pytest.mark.slow
def test_a_page_of_another_origin_may_use_it_where_that_is_allowed(browser: Browser) -> None:
    with run_server() as elsewhere:
        origin = elsewhere.url
        with run_server("--allowed-origin", origin) as server, in_page(browser, origin) as page:
            page.run(f"globalThis.heartwire = await import('{server.url}/heartwire.js');")
            for transport in TRANSPORTS:
                talks(page, server, transport)


@pytest.mark.slow
def test_a_page_begins_where_the_last_one_ended_and_heeds_what_the_system_says(browser: Browser) -> None:
    with run_server() as server, in_page(browser, server.url) as page:
        opened = page.run(
            """begin(undefined, { storage: undefined, transports: ["sse"] });
               await until(() => heard("open").length);
               await client.close();
               begin(undefined, { storage: undefined });
               await until(() => heard("open").length);
               return heard("open");"""
        )
        assert opened == [{"transport": "sse"}]
        states = page.run(
            """dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
               await until(() => client.state !== "online");
               dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
               await until(() => client.state === "online");
               dispatchEvent(new Event("offline"));
               dispatchEvent(new Event("online"));
               await client.publish("a", 1);
               await client.close();
               return [heard("state").map(one => one.state), heard("close")[0].reason];"""
        )
        assert states == [
            ["connecting", "online", "waiting", "connecting", "online", "closed"],
            "the page was put aside",
        ]


@pytest.mark.slow
def test_a_listener_that_throws_is_an_error_event(browser: Browser) -> None:
    """It was an error of the page's, of which the application was not told."""
    with run_server() as server, in_page(browser, server.url) as page:
        check_throwing(page.run(THROWING, url=server.url, channel="throwing"))
