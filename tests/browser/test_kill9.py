"""A page of Chromium that follows and publishes while servers are killed and networks fail: nothing lost,
doubled or reordered."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from heartwire import connect_sync
from heartwire.client.options import Options
from heartwire.testing import FaultyNetwork, faulty_network
from heartwire.testing.server import run_server
from tests.browser.cdp import Chromium
from tests.integration.wire import until
from tests.js.node import in_js
from tests.js.runtime import PageRuntime, in_page

RESTARTS = 20

# Faults are noticed after some 2 s, and attempts are quick, so that the tests are.
SERVER = ("--ping-interval-s", "1.5", "--pong-timeout-s", "1")
OPTIONS: Final = Options(
    pong_timeout_s=1,
    open_timeout_s=1,
    upgrade_after_s=2,
    open_timeout_cap_s=2,
    request_timeout_s=2,
    backoff_cap_s=0.2,
    attempt_burst=100,
)
IN_JS: Final = in_js(OPTIONS._asdict())


class Publisher:
    """A Python client on a thread that publishes numbers, each once the last one is answered, until it is
    left."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.answered = 0
        self._url = url
        self._stop = threading.Event()
        self._problem: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Publisher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def wait(self, count: int) -> None:
        """Wait until so many were answered."""
        until(lambda: self.answered >= count)

    def finish(self) -> None:
        """Wait for the last answer. Raises what went wrong."""
        self._stop.set()
        self._thread.join()
        if self._problem is not None:
            raise self._problem

    def _run(self) -> None:
        try:
            with connect_sync(self._url, options=OPTIONS) as client:
                while not self._stop.wait(0.01):  # a hundred a second are enough
                    client.publish("a", {"who": self.name, "n": self.answered})
                    self.answered += 1
        except Exception as error:
            self._problem = error


@contextmanager
def publishing(page: PageRuntime, url: str) -> Iterator[list[Publisher]]:
    """The page follows `a`, it and two Python clients publish; in the end all of it has come, as the server
    has kept it."""
    page.run(
        """begin(undefined, options);
           globalThis.got = [];
           globalThis.answers = [];
           await client.subscribe("a", ({ data }) => got.push(`${data.who} ${data.n}`)).ready;
           globalThis.timer = setInterval(() => answers.push(client.publish("a", { who: "page", n: answers.length })), 20);""",
        options=IN_JS,
    )
    with ExitStack() as stack:
        publishers = [stack.enter_context(Publisher(url, name)) for name in ("one", "two")]
        yield publishers
        for publisher in publishers:
            publisher.finish()
    page.run("clearInterval(timer); await Promise.all(answers);")
    counts = {one.name: one.answered for one in publishers} | {"page": page.run("return answers.length;")}
    total = sum(counts.values())
    page.tab.until(f"got.length >= {total}", timeout_s=30)
    got = page.run("const all = [...got]; await client.close(); return [all, heard('gap'), heard('error')];")
    assert got[1:] == [[], []]
    assert got[0] == kept(url, total)
    for name, count in counts.items():
        assert [one for one in got[0] if one.startswith(f"{name} ")] == [f"{name} {n}" for n in range(count)]


def kept(url: str, total: int) -> list[str]:
    """What the server has, in its order."""
    with connect_sync(url) as client:
        publications = client.subscribe("a", since="earliest")
        everything = [next(publications).data for _ in range(total)]
    return [f"{data['who']} {data['n']}" for data in everything]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_server_that_is_killed_twenty_times_loses_nothing(tmp_path: Path, chromium: Chromium) -> None:
    with (
        run_server(engine="sqlite:///hw.db", folder=tmp_path) as server,
        in_page(chromium, server.url, is_network_bad=True) as page,
    ):
        with publishing(page, server.url) as publishers:
            for _ in range(RESTARTS):
                goals = [one.answered + 1 for one in publishers]
                page.tab.until(
                    f"got.length >= {page.run('return got.length;')} + 20 && client.state === 'online'"
                )
                page.run("await answers.at(-1);")
                for publisher, goal in zip(publishers, goals, strict=True):
                    publisher.wait(goal)
                server.restart()
        assert page.run("return heard('open').length;") > RESTARTS


Fault = Callable[[FaultyNetwork], None]

MODES: dict[str, tuple[Fault, ...]] = {
    "refuse": (FaultyNetwork.refuse, FaultyNetwork.reset),
    "reset": (FaultyNetwork.reset,),
    "cut": (FaultyNetwork.cut,),
    "black hole": (FaultyNetwork.black_hole,),
    "delay": (lambda network: network.delay(0.05, jitter_s=0.1),),
    "throttle": (lambda network: network.throttle(30_000),),
    "cut after": (lambda network: network.cut_after(2_000),),
    "buffer": (FaultyNetwork.strip_upgrade, FaultyNetwork.buffer_responses, FaultyNetwork.reset),
    "502": (FaultyNetwork.answer_502, FaultyNetwork.cut),
    "strip upgrade": (FaultyNetwork.strip_upgrade, FaultyNetwork.cut),
    "cut requests": (
        FaultyNetwork.strip_upgrade,
        FaultyNetwork.buffer_responses,
        lambda network: network.cut_requests_after(1),
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_network_that_fails_in_every_way_loses_nothing(tmp_path: Path, chromium: Chromium) -> None:
    with (
        run_server(*SERVER, engine="sqlite:///hw.db", folder=tmp_path) as server,
        faulty_network(server.url) as network,
        in_page(chromium, network.url, is_network_bad=True) as page,
        publishing(page, server.url),
    ):
        for faults in MODES.values():
            closed, got = page.run("return [heard('close').length, got.length];")
            for spoil in faults:
                spoil(network)
            page.tab.until(f"heard('close').length > {closed} || got.length >= {got} + 200")
            network.heal()
            got = page.run("return got.length;")
            page.tab.until(f"client.state === 'online' && got.length >= {got} + 50")
