"""Where streams live. One contract (`base`), one module per store; a driver is imported only when its engine
is chosen."""

from urllib.parse import parse_qs, urlsplit

from heartwire.engines.contract import Engine
from heartwire.errors import ConfigError

__all__ = ["open_engine"]


def open_engine(url: str) -> Engine:
    """The engine a URL names: ``memory://``, ``sqlite:///relative.db``,
    ``sqlite:////absolute.db?synchronous=full``.

    Raises `ConfigError`. Nothing is opened yet: that is `Engine.start`.
    """
    parts = urlsplit(url if "://" in url else f"{url}://")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if parts.scheme == "memory" and not parts.path and not query:
        from heartwire.engines.memory import MemoryEngine

        return MemoryEngine()
    if parts.scheme == "sqlite":
        return _open_sqlite(url, parts.netloc, parts.path[1:], query)
    raise ConfigError("engine", url, "memory, sqlite:///FILE or sqlite:////ABSOLUTE/FILE")


def _open_sqlite(url: str, host: str, path: str, query: dict[str, str]) -> Engine:
    from heartwire.engines.sqlite import SqliteEngine

    synchronous = query.pop("synchronous", "normal")
    if host or not path or query:
        raise ConfigError("engine", url, "sqlite:///FILE (three slashes), with ?synchronous=full at most")
    if synchronous == "normal":
        return SqliteEngine(path)
    if synchronous == "full":
        return SqliteEngine(path, synchronous="full")
    raise ConfigError("engine", url, "synchronous is normal or full")
