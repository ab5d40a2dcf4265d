"""What a URL says about a store in Redis or Valkey.

* ``redis://user:password@host:6379/0``, also ``valkey://``; ``rediss://`` and ``valkeys://`` by TLS
* ``redis+unix:///run/redis.sock?db=0``
* ``redis+sentinel://host:26379,host:26379/0?master=hw``
* ``redis+cluster://host:6379,host:6379``
"""

import re
import ssl
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from heartwire.engines.options import SharedOptions, options_from, without_password
from heartwire.engines.redis.pipe import Address
from heartwire.errors import ConfigError

__all__ = ["Kind", "RedisOptions", "Target"]

Kind = Literal["single", "sentinel", "cluster"]

_SCHEME: Final = re.compile(r"(?:redis|valkey)(s?)(?:\+(unix|sentinel|cluster))?")
_KINDS: Final[dict[str, Kind]] = {"sentinel": "sentinel", "cluster": "cluster"}
_PORTS: Final[dict[Kind, int]] = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_FORMS: Final = (
    "redis://user:password@host:6379/0 (rediss:// by TLS, or valkey), redis+unix:///SOCKET,"
    " redis+sentinel://host,host/0?master=NAME, redis+cluster://host,host"
)


class RedisOptions(SharedOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options after the ``?``.

    Attributes:
        prefix: what all keys begin with: several installations fit in one store.
        on_restart: "trust": a single server without replicas has lost nothing when it is started again (it
            writes an append-only file with ``appendfsync always``), so epochs go on.
        db: the number of the database, where the path does not say it.
        master: the name that sentinels have for the primary.
        ca_file: certificates of authorities, in place of the system's.
    """

    prefix: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:/-]{1,64}$")] = "hw"
    on_restart: Literal["renew", "trust"] = "renew"
    db: Annotated[int, msgspec.Meta(ge=0)] = 0
    master: str = ""
    ca_file: str = ""


class Target(NamedTuple):
    """Where to find the store, and as whom.

    Attributes:
        name: the URL, without its password.
    """

    name: str
    kind: Kind
    addresses: tuple[Address, ...]
    user: str
    password: str
    db: int
    is_tls: bool
    options: RedisOptions

    @classmethod
    def from_url(cls, url: str) -> "Target":
        """Raises `ConfigError`."""
        name = without_password(url)
        parts = urlsplit(url)
        match = _SCHEME.fullmatch(parts.scheme)
        if match is None or (match[1] and match[2] == "unix"):
            raise ConfigError("engine", name, _FORMS)
        is_tls, form = bool(match[1]), match[2]
        kind = _KINDS.get(form, "single")
        options = options_from(url, RedisOptions)
        who, _, places = parts.netloc.rpartition("@")
        user, _, password = who.partition(":")
        db = options.db
        if form == "unix":
            if places or len(parts.path) < 2:
                raise ConfigError("engine", name, "redis+unix:///ABSOLUTE/SOCKET?db=0")
            addresses: tuple[Address, ...] = (Address(parts.path, 0),)
        else:
            addresses = tuple(_address(one, kind, name) for one in places.split(","))
            path = parts.path.strip("/")
            if path:
                if not path.isdecimal():
                    raise ConfigError("engine", name, "the path is the number of a database: /0")
                db = int(path)
        target = cls(name, kind, addresses, unquote(user), unquote(password), db, is_tls, options)
        target._check()
        return target

    def _check(self) -> None:
        options = self.options
        if self.kind == "single" and len(self.addresses) > 1:
            raise ConfigError("engine", self.name, "several hosts are redis+sentinel:// or redis+cluster://")
        if self.kind == "sentinel" and not options.master:
            raise ConfigError("engine", self.name, "?master=NAME, as the sentinels call the primary")
        if self.kind == "cluster" and self.db:
            raise ConfigError("engine", self.name, "a cluster has database 0 only")
        if self.kind != "single" and options.on_restart == "trust":
            fix = "on_restart=trust is for a single server: what one of several has lost cannot be told"
            raise ConfigError("engine", self.name, fix)

    def tls(self) -> ssl.SSLContext | None:
        """How to speak TLS, if at all. Raises `ConfigError`."""
        if not self.is_tls:
            return None
        try:
            return ssl.create_default_context(cafile=self.options.ca_file or None)
        except OSError as error:
            raise ConfigError("engine", self.name, f"ca_file: {error}") from None


def _address(place: str, kind: Kind, name: str) -> Address:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", place)
    if match is None or not 0 < int(match[2] or 1) < 65536:
        raise ConfigError("engine", name, _FORMS)
    return Address(match[1].strip("[]"), int(match[2] or _PORTS[kind]))
