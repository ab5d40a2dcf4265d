"""The protocol's official client through bad networks: what its producer appends is there once, and each of
its readers gets it once."""

import json
import random
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from heartwire.testing import FaultyNetwork
from heartwire.testing.faulty import faulty_network
from heartwire.testing.server import run_server
from tests.integration.durable.test_suite import CONFIG, SUITE, need_suite

Fault = Callable[[FaultyNetwork], None]

ONCE: Final[list[Fault]] = [FaultyNetwork.reset, FaultyNetwork.cut, FaultyNetwork.lose]
FOR_NEW_ONES: Final[list[Fault]] = [
    lambda network: network.cut_after(0, "down"),  # the server has taken the request
    lambda network: network.cut_after(60, "down"),
    lambda network: network.cut_after(100, "up"),  # it has half of it
    FaultyNetwork.answer_502,
    FaultyNetwork.refuse,
]


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    need_suite()
    with run_server(config=CONFIG) as server:
        yield server.url
        assert "Traceback" not in server.log


def storm(network: FaultyNetwork, chance: random.Random, count: int) -> None:
    """Each of so many faults comes in the middle of something."""
    for fault in (chance.choice([*ONCE, *FOR_NEW_ONES]) for _ in range(count)):
        passed = network.bytes_up + network.bytes_down + chance.randrange(1000, 5000)
        network.wait_until(lambda passed=passed: network.bytes_up + network.bytes_down > passed)  # type: ignore[misc]
        fault(network)
        if fault in FOR_NEW_ONES:
            network.reset()
            tried = network.accepted + 3
            if fault is not FaultyNetwork.refuse:
                network.wait_until(lambda tried=tried: network.accepted >= tried)  # type: ignore[misc]
            network.heal()
            network.delay(0, jitter_s=chance.choice([0, 0.01]))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["json", "text"])
def test_each_once_through_a_storm(server_url: str, kind: str, seed: int) -> None:
    path = f"/v1/stream/{kind}/{seed}"
    with faulty_network(server_url) as network:
        command = ["node", "client.mjs", network.url + path, kind]
        with subprocess.Popen(
            command, cwd=SUITE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as client:
            try:
                storm(network, random.Random(seed), 9)
                told = json.loads(client.communicate(timeout=20)[0])
            finally:
                client.kill()
    assert told["errors"] == []
    assert told["sse"] == list(range(told["count"]))
    assert told["longPoll"] == told["sse"]
    with urllib.request.urlopen(server_url + path) as answer:
        kept = answer.read().decode()
    assert list(map(int, kept.strip("[]").replace(",", " ").split())) == told["sse"]
