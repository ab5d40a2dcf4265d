"""Which engine a URL names: one line a scheme here; others by entry point.

A package brings an engine of its own with an entry point of the group ``heartwire.engines``: its name is the
URL's scheme, its object a function from the URL to an `Engine`. A driver is imported only when its engine is
chosen.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from heartwire.engines.contract import Engine
from heartwire.errors import ConfigError

__all__ = ["GROUP", "attach", "open_engine"]

GROUP: Final = "heartwire.engines"

_SHARED: Final = "heartwire.engines.on_demand:open_shared"

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
    **dict.fromkeys(_REDIS, "heartwire.engines.redis.opening:from_url"),
}

_attached: Final[dict[str, list[str]]] = {}
"""By the URL of an engine: the store process that holds it, until somebody has opened it."""


def attach(url: str, socket: str) -> None:
    """The store process at a socket holds the engine of this URL: `open_engine` attaches to it, once."""
    _attached[url] = [socket]


def open_engine(url: str) -> Engine:
    """The engine of a URL. Raises `ConfigError`. Nothing is opened yet: that is `Engine.start`."""
    if url in _attached:
        return _open_attached(url, _attached[url])
    parts = urlsplit(url)
    scheme = parts.scheme or url
    if scheme in ("memory", "sqlite") and ("shared", "yes") in parse_qsl(parts.query):
        found = EntryPoint(scheme, _SHARED, GROUP)
    elif scheme in _ENGINES:
        found = EntryPoint(scheme, _ENGINES[scheme], GROUP)
    else:
        others = entry_points(group=GROUP)
        if scheme not in others.names:
            known = [
                "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE, redis://HOST, postgresql://HOST/DATABASE"
            ]
            known += (f"{name}://" for name in sorted(others.names))
            raise ConfigError("engine", url, ", ".join(known))
        found = others[scheme]
    make: Callable[[str], Engine] = found.load()
    return make(url)


def _open_attached(url: str, sockets: list[str]) -> Engine:
    from heartwire.engines.attached import AttachedEngine

    if not sockets:
        fix = "a second hub of this program has this engine, and its workers share one: name another"
        raise ConfigError("engine", url, fix)
    return AttachedEngine(sockets.pop())
