"""Configuration from a TOML file, the environment and flags, with errors that name the wrong key and the
right one."""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta

from heartwire.errors import ConfigError
from heartwire.hub.options import SECRETS, HubOptions, NamespaceOptions, duration_s

__all__ = ["Settings", "convert", "load"]

StructT = TypeVar("StructT", bound=msgspec.Struct)

_PREFIX = "HEARTWIRE_"
_OTHER_VARIABLES = ("HEARTWIRE_CONFIG", "HEARTWIRE_DEBUG_URL")


class Settings(HubOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `heartwire serve` can be told; the hub's own options are those of `HubOptions`.

    Attributes:
        host: address to listen on. Beyond this machine needs an authenticator or token keys, or
            ``allow_anonymous``.
        port: 0 takes a free one.
        uds: path of a Unix socket to listen on instead of ``host`` and ``port``.
        engine: "memory", or "sqlite:///FILE".
        demo: serve the demo page at ``/``.
        tls_cert, tls_key: PEM files; with them the server speaks TLS.
        log_format: "text" for people, "json" for machines.
        log_level: what is worth a line.
        access_log: a line per HTTP request.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    uds: str | None = None
    engine: str = "sqlite:///heartwire.db"
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
        """The part that a `Hub` takes."""
        return HubOptions(**{name: getattr(self, name) for name in HubOptions.__struct_fields__})


def load(file: str | None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Flags over ``HEARTWIRE_*`` over the file over defaults. Raises `ConfigError`."""
    merged: dict[str, Any] = {}
    file = file or environment.get(_PREFIX + "CONFIG")
    if file:
        merged |= _read(file)
        convert(merged, Settings, file)
    for variable, text in environment.items():
        if variable.startswith(_PREFIX) and variable not in _OTHER_VARIABLES:
            name = _known(variable.removeprefix(_PREFIX).lower(), Settings, variable)
            merged[name] = _from_text(name, text)
            convert({name: merged[name]}, Settings, variable, strict=False)
    merged |= {name: value for name, value in flags.items() if value is not None}
    return convert(merged, Settings, "configuration", strict=False)


def convert(options: Mapping[str, Any], kind: type[StructT], where: str, *, strict: bool = True) -> StructT:
    """Make a struct of options. Raises `ConfigError` that names the wrong key, and the one that may have been
    meant."""
    options = _without_aliases(options, kind, where)
    for name in options:
        _known(name, kind, where)
    namespaces = options.get("namespaces")
    if isinstance(namespaces, dict):
        made = {
            name: convert(given, NamespaceOptions, f"{where}: namespaces.{name}", strict=strict)
            if isinstance(given, dict)
            else given
            for name, given in namespaces.items()
        }
        options = {**options, "namespaces": made}
    try:
        return msgspec.convert(options, kind, strict=strict)
    except msgspec.ValidationError as error:
        path, value = _place(str(error), options)
        value = "..." if path in SECRETS else value
        raise ConfigError(f"{where}: {path}", value, _fault(str(error), kind, path)) from None


def _without_aliases(options: Mapping[str, Any], kind: type[msgspec.Struct], where: str) -> Mapping[str, Any]:
    """``history_ttl = "24h"`` is ``history_ttl_s = 86400``."""
    if kind is not NamespaceOptions or "history_ttl" not in options:
        return options
    if "history_ttl_s" in options:
        raise ConfigError(where, "history_ttl", "give history_ttl or history_ttl_s, not both")
    others = {name: value for name, value in options.items() if name != "history_ttl"}
    try:
        return others | {"history_ttl_s": duration_s(str(options["history_ttl"]))}
    except ValueError as error:
        raise ConfigError(f"{where}: history_ttl", options["history_ttl"], str(error)) from None


def _known(name: str, kind: type[msgspec.Struct], where: str) -> str:
    fields = kind.__struct_fields__
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=1)
        fix = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
        raise ConfigError(where, name, f"no such option; {fix}")
    return name


def _fault(text: str, kind: type[msgspec.Struct], name: str) -> str:
    """What msgspec says is wrong, with the choices where there are some."""
    choices = get_args(get_type_hints(kind).get(name))
    is_choice = bool(choices) and all(isinstance(choice, str) for choice in choices)
    return f"one of {', '.join(choices)}" if is_choice else text.split(" - at ")[0]


def _place(text: str, options: Mapping[str, Any]) -> tuple[str, Any]:
    """Where msgspec found the fault (it says ``… - at `$.port` ``), and the value there."""
    match = re.search(r" - at `\$\.(\w+)", text)
    name = match[1] if match else ""
    return name, options.get(name)


def _read(file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("config", file, f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config", file, f"is not TOML: {error}") from None


def _from_text(name: str, text: str) -> Any:
    """A variable's value: lists are written with commas, ``true`` and ``false`` are booleans, numbers are
    read where wanted."""
    if isinstance(getattr(_DEFAULTS, name), str):
        return text
    if isinstance(getattr(_DEFAULTS, name), tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text.lower() == "true" if text.lower() in ("true", "false") else text


_DEFAULTS = Settings()
