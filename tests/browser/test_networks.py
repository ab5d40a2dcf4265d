"""heartwire.js in each browser over a network that is cut, and one that goes silent: nothing is lost, doubled
or reordered. Each browser has its own way to pool, retry and give up connections."""

from collections.abc import Iterator

import pytest

from heartwire.testing import FaultyNetwork, faulty_network
from heartwire.testing.server import run_server
from tests.browser.page import Browser
from tests.browser.test_kill9 import IN_JS, SERVER
from tests.integration.wire import publish
from tests.js.runtime import PageRuntime, in_page
from tests.js.stories import TRANSPORTS

# One client for each transport: it follows a channel, and publishes numbers to it.
BEGIN = """
  globalThis.all = transports.map(transport => {
    const client = begin(undefined, { ...options, transports: [transport], probeTimeoutS: 0.5, pollWaitS: 2 });
    const one = { transport, client, got: [], answers: [], told };
    client.subscribe(transport, ({ data }) => one.got.push(data));
    return one;
  });
  globalThis.timer = setInterval(() => {
    for (const { answers, client, transport } of all) answers.push(client.publish(transport, answers.length));
  }, 20);
"""

# Everybody gets what is published from now on.
GO_ON = """
  const goals = all.map(({ answers }) => answers.length + 5);
  await until(() => all.every(({ got }, at) => got.includes(goals[at])), "all go on");
"""

END = """
  clearInterval(timer);
  for (const { answers } of all) await Promise.all(answers);
  await until(() => all.every(({ got, answers }) => got.length >= answers.length + times), "the rest");
  for (const { client } of all) await client.close();
  return all.map(({ got, answers, told }) =>
    [got, answers.length, told.filter(([name]) => ["gap", "error"].includes(name))]);
"""


@pytest.fixture
def server_url() -> Iterator[str]:
    with run_server(*SERVER) as server:
        yield server.url


@pytest.fixture
def network(server_url: str) -> Iterator[FaultyNetwork]:
    with faulty_network(server_url) as network:
        yield network


@pytest.fixture
def page(browser: Browser, network: FaultyNetwork) -> Iterator[PageRuntime]:
    with in_page(browser, network.url, is_network_bad=True) as page:
        page.run(BEGIN + GO_ON, options=IN_JS, transports=TRANSPORTS)
        yield page


def all_has_come(page: PageRuntime, times: int) -> None:
    """Numbers of the page's own, and so many of others', each once and in order."""
    for got, sent, problems in page.run(END, times=times):
        assert [one for one in got if isinstance(one, int)] == list(range(sent))
        assert [one for one in got if isinstance(one, str)] == [f"outside {n}" for n in range(times)]
        assert problems == []


@pytest.mark.slow
def test_a_network_that_is_cut_costs_nothing(
    page: PageRuntime, server_url: str, network: FaultyNetwork
) -> None:
    for n, fault in enumerate([network.cut, network.reset, network.cut]):
        fault()
        for transport in TRANSPORTS:
            publish(server_url, transport, f"outside {n}")
        page.run(GO_ON)
    all_has_come(page, 3)


@pytest.mark.slow
@pytest.mark.parametrize("is_reported", [False, True], ids=["", "reported"])
def test_a_network_that_forgets_its_connections_costs_nothing(
    page: PageRuntime, server_url: str, network: FaultyNetwork, is_reported: bool
) -> None:
    """No byte passes on them any more, and no end is reported: the missing ping says it, or a hint does."""
    network.lose()
    if is_reported:
        page.run("dispatchEvent(new Event('online'));")
    for transport in TRANSPORTS:
        publish(server_url, transport, "outside 0")
    page.run(GO_ON)
    all_has_come(page, 1)
