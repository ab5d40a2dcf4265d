"""A program may make its engines and then fork: each process is a node of its own."""

import os

import pytest

from heartwire.engines.attached import AttachedEngine
from heartwire.engines.contract import SharedEngine
from heartwire.engines.own_node import OwnNode
from heartwire.engines.registry import open_engine


@pytest.mark.parametrize("url", ["attached:///run/s", "redis://localhost", "postgresql://localhost/db"])
def test_a_process_that_was_forked_is_another_node(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(url)
    assert isinstance(engine, OwnNode)
    name = engine.node
    engine._begin_node()
    assert engine.node == name
    monkeypatch.setattr(os, "getpid", lambda: -1)
    engine._begin_node()
    assert engine.node != name
    of_its_name = {
        value for value in vars(engine).values() if isinstance(value, str | bytes) and name in str(value)
    }
    assert not of_its_name


def test_a_name_is_what_others_take() -> None:
    engine: SharedEngine = AttachedEngine("/run/s")
    assert len(engine.node) == 8
