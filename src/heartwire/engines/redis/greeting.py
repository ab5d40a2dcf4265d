"""The beginning of a connection to a server: who we are, and who it is."""

import logging
import ssl
from typing import Final, NamedTuple

from heartwire.engines.redis.pipe import Address, Pipe, RedisError, connect
from heartwire.engines.redis.target import Target
from heartwire.errors import ConfigError, EngineUnavailable

__all__ = ["Life", "check_server", "info_of", "open_pipe"]

log = logging.getLogger("heartwire")

_OLDEST: Final = (6, 2)
_OLDEST_CLUSTER: Final = (7, 0)
_REFUSED: Final = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR AUTH", "ERR Client sent AUTH", "ERR DB index")


class Life(NamedTuple):
    """The life of a store: another process, or another history of the same one, is another.

    Attributes:
        run_id: of the process that the connection ended in.
        replid: of its history: another after each promotion.
    """

    run_id: str
    replid: str

    def __str__(self) -> str:
        return self.run_id[:12] + self.replid[:12]


async def open_pipe(address: Address, target: Target, tls: ssl.SSLContext | None, name: str) -> Pipe:
    """Connect, log in, choose the database, and say who we are.

    Raises:
        EngineUnavailable: it cannot be reached.
        ConfigError: the server refuses us.
    """
    pipe = await connect(address, tls, target.options.connect_timeout_s)
    try:
        if target.password:
            await pipe.ask("AUTH", *([target.user] if target.user else []), target.password)
        if target.db:
            await pipe.ask("SELECT", target.db)
    except RedisError as error:
        pipe.abort("refused")
        if str(error).startswith(_REFUSED):
            raise ConfigError("engine", target.name, f"{address} refuses: {error}") from None
        raise EngineUnavailable(f"{address}: {error}") from None
    try:
        await pipe.ask("CLIENT", "SETNAME", name)
    except RedisError as error:
        log.debug("%s: %s", address, error)
    return pipe


def info_of(text: bytes) -> dict[str, str]:
    """Read an answer to ``INFO``."""
    lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


async def check_server(pipe: Pipe, address: Address, target: Target) -> Life:
    """Return which life of a store a connection ended in.

    Raises:
        EngineUnavailable: it is not a primary, or not ready.
        ConfigError: it is too old, or refuses us.
    """
    try:
        info: dict[str, str] = {}
        for section in ("server", "replication", "memory"):
            info |= info_of(await pipe.ask("INFO", section))
    except RedisError as error:
        if str(error).startswith(_REFUSED):
            raise ConfigError("engine", target.name, f"{address} refuses: {error}") from None
        raise EngineUnavailable(f"{address}: {error}") from None
    if info.get("role") != "master":
        raise EngineUnavailable(f"{address} is a replica: name the primary, or redis+sentinel://")
    if info.get("loading", "0") != "0":
        raise EngineUnavailable(f"{address} is loading its data")
    version = tuple(int(part) for part in info.get("redis_version", "0.0").split(".")[:2])
    oldest = _OLDEST_CLUSTER if target.kind == "cluster" else _OLDEST
    if version < oldest:
        has, needs = (".".join(map(str, one)) for one in (version, oldest))
        fix = f"{address} has version {has}; {needs} is the oldest that fits"
        raise ConfigError("engine", target.name, fix)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        what = "streams that it evicts begin anew, and their readers are told"
        log.warning("%s: maxmemory-policy is %s: %s; noeviction is better", address, policy, what)
    if not info.get("run_id") or not info.get("master_replid"):
        log.warning("%s hides its run_id: what it loses is seen by offsets that go back, only", address)
        return Life("", "")
    return Life(info["run_id"], info["master_replid"])
