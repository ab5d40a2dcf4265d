"""One server and one process of Node for the tests of a module."""

from collections.abc import Iterator

import pytest

from heartwire.testing.server import ServerProcess, run_server
from tests.js.runtime import Runtime, in_node


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with run_server() as server:
        yield server


@pytest.fixture(scope="module")
def node() -> Iterator[Runtime]:
    with in_node() as runtime:
        yield runtime
