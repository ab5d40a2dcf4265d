"""Which engine a URL names."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heartwire import Hub
from heartwire.engines.memory import MemoryEngine
from heartwire.engines.registry import GROUP, open_engine
from heartwire.engines.sqlite import SqliteEngine
from heartwire.errors import ConfigError
from heartwire.testing import check_engine
from heartwire.testing.engines.appending import (
    an_answered_append_can_be_read,
    offsets_count_from_one_without_holes,
)


@pytest.mark.parametrize("url", ["memory", "memory://"])
def test_memory_url_names_the_memory_engine(url: str) -> None:
    assert isinstance(open_engine(url), MemoryEngine)


@pytest.mark.parametrize(
    ("url", "path", "synchronous"),
    [
        ("sqlite:///chat.db", "chat.db", "normal"),
        ("sqlite:////var/lib/chat.db", "/var/lib/chat.db", "normal"),
        ("sqlite:///data/chat.db?synchronous=full", "data/chat.db", "full"),
        ("sqlite:///chat.db?synchronous=normal", "chat.db", "normal"),
    ],
)
def test_sqlite_url_names_a_file(url: str, path: str, synchronous: str) -> None:
    engine = open_engine(url)
    assert isinstance(engine, SqliteEngine)
    assert (engine.path, engine.synchronous) == (Path(path), synchronous)


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE, postgresql://USER@HOST/DATABASE"),
        ("chat.db", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE, postgresql://USER@HOST/DATABASE"),
        ("redis://localhost", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE"),
        ("memory:///x", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE"),
        ("memory://?size=5", "memory://, with ?max_bytes=N&max_channels=N (1 or more) at most"),
        ("sqlite", "sqlite:///FILE (three slashes), with ?synchronous=full at most"),
        ("sqlite://chat.db", "sqlite:///FILE (three slashes), with ?synchronous=full at most"),
        ("sqlite:///", "sqlite:///FILE (three slashes), with ?synchronous=full at most"),
        ("sqlite:///chat.db?mode=ro", "sqlite:///FILE (three slashes), with ?synchronous=full at most"),
        ("sqlite:///chat.db?synchronous=off", "synchronous is normal or full"),
    ],
)
def test_url_that_names_no_engine_is_refused_with_the_fix(url: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_engine(url)
    assert str(caught.value) == f"engine = {url!r}: {fix}"


# -- an engine of another package ----------------------------------------------------------------------------

TOY = '''
from heartwire.engines.memory import MemoryEngine

class ToyEngine(MemoryEngine):
    """Another package's engine."""

def from_url(url):
    assert url == "toy://"
    return ToyEngine()
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package is installed that brings the engine ``toy://``, as pip would install it."""
    (tmp_path / "toy_engine.py").write_text(TOY)
    about = tmp_path / "toy_engine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-engine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\ntoy = toy_engine:from_url\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("toy_engine", None)


@pytest.mark.usefixtures("toy")
async def test_engine_of_another_package_is_opened_by_its_scheme() -> None:
    assert type(open_engine("toy://")).__name__ == "ToyEngine"
    hub = Hub("toy://")
    assert type(hub.node.engine).__name__ == "ToyEngine"
    async with hub.lifespan():
        assert (await hub.publish("a", "hi")).offset == 1


@pytest.mark.usefixtures("toy")
async def test_engine_of_another_package_is_put_through_the_suite() -> None:
    checks = (offsets_count_from_one_without_holes, an_answered_append_can_be_read)
    await check_engine(lambda clock: open_engine("toy://"), checks=checks)


@pytest.mark.usefixtures("toy")
def test_unknown_scheme_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"sqlite:////ABSOLUTE/FILE, postgresql://USER@HOST/DATABASE, toy://$"
    ):
        open_engine("tin://")
