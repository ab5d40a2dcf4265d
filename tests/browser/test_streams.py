"""Durable streams in pages: more readers than a browser has connections, and a network that has changed."""

import asyncio
from collections.abc import Iterator

import pytest

import heartwire
from heartwire.testing import FaultyNetwork, faulty_network
from tests.browser.page import Browser
from tests.js.reference import stream_server
from tests.js.runtime import PageRuntime, in_page

READ = """
globalThis.at = () => heartwire.stream("/streams/told", { pollIntervalS: 0.1, backoffCapS: 0.2, openTimeoutS: 0.5 });
globalThis.read = async () => {
  const got = [];
  for await (const text of at()) got.push(text);
  return got.join("");
};
"""


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with stream_server("heartwire") as url:
        yield url.removesuffix("/streams")


@pytest.fixture
def network(server_url: str) -> Iterator[FaultyNetwork]:
    with faulty_network(server_url) as network:
        yield network


@pytest.fixture
def page(browser: Browser, server_url: str, network: FaultyNetwork) -> Iterator[PageRuntime]:
    with in_page(browser, network.url, is_network_bad=True) as page:
        page.run(READ)
        page.run("await at().create({ contentType: 'text/plain' });")
        yield page
    asyncio.run(heartwire.connect(server_url).stream("told").delete())


@pytest.mark.slow
def test_readers_leave_connections_for_what_is_answered_at_once(page: PageRuntime) -> None:
    """Seven held requests would take all six connections, and appends would wait for ever."""
    told = page.run(
        """const reading = Array.from({ length: 7 }, read);
           const out = at().producer();
           for (let n = 0; n < 20; n++) await out.append(`é${n} `);
           await out.close("end");
           return await Promise.all(reading);"""
    )
    assert told == ["".join(f"é{n} " for n in range(20)) + "end"] * 7


@pytest.mark.slow
def test_a_change_of_network_is_noticed_at_once(
    page: PageRuntime, server_url: str, network: FaultyNetwork
) -> None:
    """Not after 35 s of silence: a phone that is looked at again is to show the rest."""
    page.run(
        """globalThis.reader = at();
           globalThis.got = [];
           globalThis.done = (async () => { for await (const text of reader) got.push(text); })();
           globalThis.out = at().producer();
           await out.append("before ");
           await until(() => got.length === 1);"""
    )
    network.lose()
    asyncio.run(heartwire.connect(server_url).stream("told").close("after"))
    took_ms = page.run(
        """const begun = performance.now();
           dispatchEvent(new Event("online"));
           await done;
           return performance.now() - begun;"""
    )
    assert (page.run("return got.join('');"), took_ms < 5000) == ("before after", True)
