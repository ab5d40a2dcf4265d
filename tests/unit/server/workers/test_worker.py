"""What a worker takes from its parent."""

from pathlib import Path

import pytest

from heartwire import Hub
from heartwire.engines import registry
from heartwire.engines.attached import AttachedEngine
from heartwire.errors import ConfigError
from heartwire.hub.admission import Admission
from heartwire.hub.options import HubOptions
from heartwire.server.config import Settings
from heartwire.server.workers.parent import count_of
from heartwire.server.workers.worker import Assignment


def test_an_assignment_is_taken_once() -> None:
    given = Assignment(workers=2, listener=3, control=4, engine="memory", store="/tmp/s")
    environment = given.put()
    assert Assignment.take(environment) == given
    assert Assignment.take(environment) is None


def test_one_hub_gets_the_engine_of_the_store_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_attached", {})
    registry.attach("memory://", "/run/store")
    engine = Hub().node.engine
    assert isinstance(engine, AttachedEngine)
    assert engine.path == Path("/run/store")
    assert not isinstance(Hub("memory").node.engine, AttachedEngine)
    with pytest.raises(ConfigError, match="a second hub of this program"):
        Hub()


def test_the_rate_of_connects_is_divided() -> None:
    admission = Admission(HubOptions(connects_per_s=10, connects_burst=4))
    admission.divide_rate(4)
    assert admission.wait_s(0) == 0
    assert admission.wait_s(0) == pytest.approx(2 / 2.5)  # one step more than the token takes
    off = Admission(HubOptions(connects_per_s=0))
    off.divide_rate(4)
    assert off.wait_s(0) == 0


def test_the_number_of_workers() -> None:
    assert count_of(Settings(workers=3)) == 3
    assert count_of(Settings(workers="auto")) >= 1
