"""Which engine a URL names."""

from pathlib import Path

import pytest

from heartwire.engines.memory import MemoryEngine
from heartwire.engines.registry import open_engine
from heartwire.engines.sqlite import SqliteEngine
from heartwire.errors import ConfigError


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
        ("", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE"),
        ("chat.db", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE"),
        ("redis://localhost", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE"),
        ("memory:///x", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE"),
        ("memory://?size=5", "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE"),
        ("sqlite", "sqlite:///FILE (three slashes), with ?synchronous=full at most"),
        ("sqlite://chat.db", "sqlite:///FILE (three slashes), with ?synchronous=full at most"),
        ("sqlite:///", "sqlite:///FILE (three slashes), with ?synchronous=full at most"),
        ("sqlite:///chat.db?mode=ro", "sqlite:///FILE (three slashes), with ?synchronous=full at most"),
        ("sqlite:///chat.db?synchronous=off", "synchronous is normal or full"),
    ],
)
def test_url_that_names_no_engine_is_told_with_the_fix(url: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_engine(url)
    assert str(caught.value) == f"engine = {url!r}: {fix}"
