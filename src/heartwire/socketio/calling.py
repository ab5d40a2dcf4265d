"""How handlers are called: plain functions and coroutine functions, with or without their last argument."""

import inspect
from collections.abc import Callable
from typing import Any, Final

__all__ = ["called"]

_OPTIONAL: Final = ("connect", "disconnect")
"""Events whose last argument (``auth``, ``reason``) a handler need not take."""


async def called(function: Callable[..., Any], event: str, arguments: tuple[Any, ...]) -> Any:
    """Call a handler, and return what it returns."""
    if event in _OPTIONAL and not _takes(function, len(arguments)):
        arguments = arguments[:-1]
    result = function(*arguments)
    return await result if inspect.isawaitable(result) else result


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # of a builtin
        return True
    return True
