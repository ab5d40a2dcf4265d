"""Options made of loose values, with errors that name the wrong key and the right one."""

import difflib
import re
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from heartwire.errors import ConfigError
from heartwire.hub.options import SECRETS, NamespaceOptions, duration_s

__all__ = ["convert", "known_option"]

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
    if kind is not NamespaceOptions or "history_ttl" not in options:
        return options
    if "history_ttl_s" in options:
        raise ConfigError(where, "history_ttl", "give history_ttl or history_ttl_s, not both")
    others = {name: value for name, value in options.items() if name != "history_ttl"}
    try:
        return others | {"history_ttl_s": duration_s(str(options["history_ttl"]))}
    except ValueError as error:
        raise ConfigError(f"{where}: history_ttl", options["history_ttl"], str(error)) from None


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
