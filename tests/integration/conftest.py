"""Servers that tests share, one process each; every test uses channels of its own."""

import itertools
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.utils.functional import empty

from heartwire.testing.server import ServerProcess, run_server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """`heartwire serve` as it is, over a SQLite file."""
    with run_server(engine="sqlite:///test.db") as server:
        yield server


@pytest.fixture
def channel() -> str:
    """A channel that no other test uses."""
    return f"room{next(_numbers)}"


@pytest.fixture
def unconfigured_django() -> Iterator[None]:
    """Django without settings: another test may have some of its own."""
    before = settings._wrapped
    settings._wrapped = empty
    yield
    settings._wrapped = before
