"""Configuration from a TOML file, the environment and flags, with errors that name the wrong key and the
right one."""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from heartwire.errors import ConfigError
from heartwire.hub.conversion import convert, known_option
from heartwire.hub.options import HubOptions

__all__ = ["Settings", "load", "service_links"]

_PREFIX = "HEARTWIRE_"
_OTHER_VARIABLES = ("HEARTWIRE_CONFIG", "HEARTWIRE_DEBUG_URL", "HEARTWIRE_TOKEN")

_SERVICE_LINK: Final = re.compile(
    r"HEARTWIRE(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""Kubernetes gives every pod the addresses of every Service near it: of one named ``heartwire``, or
``heartwire-…``."""

_LINK_URL: Final = re.compile(r"(tcp|udp|sctp)://.*")


class Settings(HubOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of `heartwire serve`; the hub's own options are those of `HubOptions`.

    Attributes:
        host: address to listen on. Beyond this machine needs an authenticator or token keys, or
            ``allow_anonymous``.
        port: 0 takes a free one.
        uds: path of a Unix socket to listen on instead of ``host`` and ``port``.
        uds_mode: its mode in octal, such as "0660"; unset: what the umask leaves of 0777.
        engine: "memory", or "sqlite:///FILE".
        workers: how many processes serve; "auto" as many as there are cores.
        demo: serve the demo page at ``/``.
        tls_cert, tls_key: PEM files; with them the server speaks TLS.
        log_format: "text" for people, "json" for machines.
        log_level: what is worth a line.
        access_log: a line per HTTP request.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    uds: str | None = None
    uds_mode: Annotated[str, Meta(pattern="^0?[0-7]{3}$")] | None = None
    engine: str = "sqlite:///heartwire.db"
    workers: Annotated[int, Meta(ge=1)] | Literal["auto"] = 1
    demo: bool = True
    tls_cert: str | None = None
    tls_key: str | None = None
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    access_log: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert", self.tls_cert, "give tls_cert and tls_key together")
        personal = self.user_personal_channel_namespace
        if (
            personal
            and self.namespaces
            and personal not in self.namespaces
            and not self.allow_unknown_namespaces
        ):
            raise ConfigError("user_personal_channel_namespace", personal, f"add [namespaces.{personal}]")

    @property
    def hub_options(self) -> HubOptions:
        """The hub's part."""
        return HubOptions(**{name: getattr(self, name) for name in HubOptions.__struct_fields__})


def load(
    file: str | None,
    environment: Mapping[str, str],
    flags: Mapping[str, Any],
    *,
    warn: Callable[[str], None] | None = None,
) -> Settings:
    """Flags over ``HEARTWIRE_*`` over the file over defaults. Raises `ConfigError`.

    ``warn`` is told of each variable that is no option; without it, that is an error.
    """
    merged: dict[str, Any] = {}
    file = file or environment.get(_PREFIX + "CONFIG")
    if file:
        merged |= _read(file)
        convert(merged, Settings, file)
    links = service_links(environment)
    for variable, text in environment.items():
        if not variable.startswith(_PREFIX) or variable in _OTHER_VARIABLES or variable in links:
            continue
        try:
            name = known_option(variable.removeprefix(_PREFIX).lower(), Settings, variable)
        except ConfigError as error:
            if warn is None:
                raise
            warn(f"{error} (ignored; an error with --strict)")
        else:
            merged[name] = _from_text(name, text)
            convert({name: merged[name]}, Settings, variable, strict=False)
    merged |= {name: value for name, value in flags.items() if value is not None}
    return convert(merged, Settings, "configuration", strict=False)


def service_links(environment: Mapping[str, str]) -> list[str]:
    """The variables ``HEARTWIRE_…`` that Kubernetes has set, and not somebody for us."""
    return [
        name
        for name, text in environment.items()
        if name.startswith(_PREFIX) and (_SERVICE_LINK.fullmatch(name) or _LINK_URL.fullmatch(text))
    ]


def _read(file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("config", file, f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config", file, f"is not TOML: {error}") from None


def _from_text(name: str, text: str) -> Any:
    """A variable's value: lists have commas, ``true`` and ``false`` are booleans."""
    if isinstance(getattr(_DEFAULTS, name), str):
        return text
    if isinstance(getattr(_DEFAULTS, name), tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text.lower() == "true" if text.lower() in ("true", "false") else text


_DEFAULTS = Settings()
