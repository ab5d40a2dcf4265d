"""The error of a check whose promise is not kept, and two ways to raise it."""

__all__ = ["PromiseBroken", "expect", "promise"]


class PromiseBroken(AssertionError):
    """An implementation does not keep a promise. The message names the promise and what came instead."""


def promise(kept: bool, what: str) -> None:
    """Raise `PromiseBroken` unless ``kept``."""
    if not kept:
        raise PromiseBroken(what)


def expect(what: str, got: object, expected: object) -> None:
    """Raise `PromiseBroken` unless both are equal; the message shows both."""
    promise(got == expected, f"{what}: got {got!r:.300}, expected {expected!r:.300}")
