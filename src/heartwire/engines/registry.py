"""Which engine a URL names: one line a scheme here; others by entry point.

A package brings an engine of its own with an entry point of the group ``heartwire.engines``: its name is the
URL's scheme, its object a function from the URL to an `Engine`. A driver is imported only when its engine is
chosen.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Final
from urllib.parse import urlsplit

from heartwire.engines.contract import Engine
from heartwire.errors import ConfigError

__all__ = ["GROUP", "open_engine"]

GROUP: Final = "heartwire.engines"

_REDIS: Final = [
    f"{name}{tls}{form}"
    for name in ("redis", "valkey")
    for tls, forms in (("", ("", "+unix", "+sentinel", "+cluster")), ("s", ("", "+sentinel", "+cluster")))
    for form in forms
]

_ENGINES: Final = {
    "attached": "heartwire.engines.attached:AttachedEngine.from_url",
    "memory": "heartwire.engines.memory:MemoryEngine.from_url",
    "postgres": "heartwire.engines.postgres.engine:PostgresEngine.from_url",
    "postgresql": "heartwire.engines.postgres.engine:PostgresEngine.from_url",
    "sqlite": "heartwire.engines.sqlite:SqliteEngine.from_url",
    **dict.fromkeys(_REDIS, "heartwire.engines.redis:from_url"),
}


def open_engine(url: str) -> Engine:
    """The engine of a URL. Raises `ConfigError`. Nothing is opened yet: that is `Engine.start`."""
    scheme = urlsplit(url).scheme or url
    if scheme in _ENGINES:
        found = EntryPoint(scheme, _ENGINES[scheme], GROUP)
    else:
        others = entry_points(group=GROUP)
        if scheme not in others.names:
            known = ["memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE, postgresql://USER@HOST/DATABASE"]
            known += (f"{name}://" for name in sorted(others.names))
            raise ConfigError("engine", url, ", ".join(known))
        found = others[scheme]
    make: Callable[[str], Engine] = found.load()
    return make(url)
