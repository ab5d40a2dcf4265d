"""Streams in Redis or Valkey: see `heartwire.engines.redis.engine`."""

from typing import TYPE_CHECKING

from heartwire.errors import ConfigError

if TYPE_CHECKING:
    from heartwire.engines.redis.engine import RedisEngine

__all__ = ["from_url"]


def from_url(url: str) -> "RedisEngine":
    """The engine of a URL; `heartwire.engines.redis.target` has its forms. Raises `ConfigError`."""
    try:
        from heartwire.engines.redis.engine import RedisEngine
    except ModuleNotFoundError as error:
        if error.name != "hiredis":
            raise
        raise ConfigError("engine", url.partition("://")[0], "pip install 'heartwire[redis]'") from None
    return RedisEngine.from_url(url)
