"""The error of a check whose promise is not kept, two ways to raise it, and the checks of a module."""

from inspect import iscoroutinefunction, signature
from typing import Any

__all__ = ["PromiseBroken", "checks_in", "expect", "promise"]


class PromiseBroken(AssertionError):
    """An implementation does not keep a promise. The message names the promise and what came instead."""


def promise(kept: bool, what: str) -> None:
    """Raise `PromiseBroken` unless ``kept``."""
    if not kept:
        raise PromiseBroken(what)


def expect(what: str, got: object, expected: object) -> None:
    """Raise `PromiseBroken` unless both are equal; the message shows both."""
    promise(got == expected, f"{what}: got {got!r:.300}, expected {expected!r:.300}")


def checks_in(names: dict[str, Any]) -> tuple[Any, ...]:
    """The checks that a module with these ``names`` defines: its coroutine functions of one argument."""
    own = (one for one in names.values() if iscoroutinefunction(one) and one.__module__ == names["__name__"])
    return tuple(one for one in own if len(signature(one).parameters) == 1)
