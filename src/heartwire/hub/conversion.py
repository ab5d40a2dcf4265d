"""Options made of loose values, with errors that name the wrong key and the right one."""

import difflib
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar, get_args, get_type_hints

import msgspec

from heartwire.errors import ConfigError
from heartwire.hub.options import SECRETS, NamespaceOptions, duration_s

__all__ = ["convert", "known_option"]

_ALIASES: Final = {"history_ttl": "history_ttl_s", "ttl": "stream_ttl_s"}

StructT = TypeVar("StructT", bound=msgspec.Struct)


def convert(options: Mapping[str, Any], kind: type[StructT], where: str, *, strict: bool = True) -> StructT:
    """Make a struct of options.

    Raises `ConfigError`, which names the wrong key and the one that was probably meant.
    """
    options = _without_aliases(options, kind, where)
    for name in options:
        known_option(name, kind, where)
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
    if kind is not NamespaceOptions:
        return options
    for alias, name in _ALIASES.items():
        if alias not in options:
            continue
        if name in options:
            raise ConfigError(where, alias, f"give {alias} or {name}, not both")
        try:
            seconds = duration_s(str(options[alias]))
        except ValueError as error:
            raise ConfigError(f"{where}: {alias}", options[alias], str(error)) from None
        options = {key: value for key, value in options.items() if key != alias} | {name: seconds}
    return options


def known_option(name: str, kind: type[msgspec.Struct], where: str) -> str:
    """Return the name. Raises `ConfigError` where ``kind`` has no such option."""
    fields = kind.__struct_fields__
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=1)
        fix = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
        raise ConfigError(where, name, f"no such option; {fix}")
    return name


def _fault(text: str, kind: type[msgspec.Struct], name: str) -> str:
    """The fault in msgspec's words, with the choices where there are some."""
    choices = get_args(get_type_hints(kind).get(name))
    is_choice = bool(choices) and all(isinstance(choice, str) for choice in choices)
    return f"one of {', '.join(choices)}" if is_choice else text.split(" - at ")[0]


def _place(text: str, options: Mapping[str, Any]) -> tuple[str, Any]:
    """The place of the fault (msgspec writes ``… - at `$.port` ``), and the value there."""
    match = re.search(r" - at `\$\.(\w+)", text)
    name = match[1] if match else ""
    return name, options.get(name)
