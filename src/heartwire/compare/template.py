"""The markup and the words of the page: `page.html`, and `parts.html` for what repeats in it.

``{{name}}`` stands for a value, escaped unless it is `Html`. ``[[…]]`` is left out where a value in it is
empty; ``{{?name}}`` in it only asks for that and prints nothing.

The page needs no more, so there is no template engine: Jinja2 would be a dependency of all users for one
page, which would use only its loops.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache
from html import escape
from pathlib import Path
from typing import Final

__all__ = ["Html", "fill", "join", "part", "parts", "read"]

_PART: Final = re.compile(r'<template id="([^"]+)">(.*?)</template>', re.DOTALL)
_OPTIONAL: Final = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_NAME: Final = re.compile(r"\{\{(\??)([^}]+)\}\}")


class Html(str):
    """Markup, which is not escaped again."""

    __slots__ = ()


def fill(text: str, value: Callable[[str], str]) -> Html:
    """Put values into a template; ``value`` gives that of a name."""

    def optional(found: re.Match[str]) -> str:
        return found[1] if all(value(name) for _, name in _NAME.findall(found[1])) else ""

    def placeholder(found: re.Match[str]) -> str:
        made = value(found[2])
        return "" if found[1] else made if isinstance(made, Html) else escape(made)

    return Html(_NAME.sub(placeholder, _OPTIONAL.sub(optional, text)))


def part(name: str, /, **values: object) -> Html:
    """A part of `parts.html` with its values; ``None`` and ``False`` are empty."""
    texts = {key: "" if value is None or value is False else value for key, value in values.items()}
    return fill(parts()[name], lambda key: text if isinstance(text := texts[key], str) else str(text))


def join(made: Iterable[str]) -> Html:
    return Html("".join(made))


@cache
def parts() -> dict[str, str]:
    """The parts of `parts.html` by their ids."""
    return dict(_PART.findall(read("parts.html")))


def read(name: str) -> str:
    """The text of a file beside this one."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
