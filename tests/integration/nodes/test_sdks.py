"""The official SDKs of the Centrifugal protocol, behind a proxy that takes three nodes in turn: a stream is on
one of them, and each emulation request on another."""

import contextlib
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.integration.centrifugal import test_sdks as sdks
from tests.integration.centrifugal.sdk.harness import Relay, Server, node_modules, serving
from tests.integration.nodes.deployment import store_process

make, name = sdks.make, sdks.name


class _Fleet(Server):
    """Three servers on one store, as one."""

    def __init__(self, port: int, servers: list[Server]) -> None:
        self.port = port
        self._servers = servers

    @property
    def log(self) -> str:
        return "".join(server.log for server in self._servers)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folders = (tmp_path_factory.mktemp(f"node{number}") for number in count())
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))
        stack.enter_context(store_process("memory", folder))
        environment = {"APP_ENGINE": f"attached://{Path(folder, 's')}"}
        servers = [stack.enter_context(serving(next(folders), **environment)) for _ in range(3)]
        relay = stack.enter_context(contextlib.closing(Relay(*(one.port for one in servers))))
        yield _Fleet(relay.port, servers)


@pytest.fixture(params=["js", "python", "js-http_stream"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param.startswith("js"):
        node_modules()
    return str(request.param)


test_connect_with_a_token = sdks.test_connect_with_a_token
test_everything_once = sdks.test_everything_once
test_joins_for_those_who_ask = sdks.test_joins_for_those_who_ask
test_subscription_token = sdks.test_subscription_token
test_server_subscribes_and_unsubscribes = sdks.test_server_subscribes_and_unsubscribes
test_unsubscribed_by_the_server = sdks.test_unsubscribed_by_the_server
test_disconnect_hook_is_called = sdks.test_disconnect_hook_is_called
test_cache_recovery = sdks.test_cache_recovery
test_position_that_is_gone_is_a_gap = sdks.test_position_that_is_gone_is_a_gap
test_nothing_is_lost_when_the_link_is_cut = sdks.test_nothing_is_lost_when_the_link_is_cut
