"""Functions of the application: those that may block run in threads."""

import threading
from functools import partial
from typing import Any

import pytest

from heartwire.hub.threads import off_loop


def blocking(name: str = "") -> int:
    return threading.get_ident()


async def waiting(name: str = "") -> int:
    return threading.get_ident()


class Blocking:
    def __call__(self) -> int:
        return threading.get_ident()

    async def method(self) -> int:
        return threading.get_ident()


class Waiting:
    async def __call__(self) -> int:
        return threading.get_ident()


@pytest.mark.parametrize("function", [waiting, partial(partial(waiting), "x"), Waiting(), Blocking().method])
async def test_async_functions_stay_on_the_loop(function: Any) -> None:
    assert off_loop(function) is function
    assert await function() == threading.get_ident()


@pytest.mark.parametrize("function", [blocking, partial(blocking, "x"), Blocking(), lambda: blocking()])
async def test_others_run_in_a_thread(function: Any) -> None:
    assert await off_loop(function)() != threading.get_ident()


async def test_a_sync_function_may_return_an_awaitable() -> None:
    assert await off_loop(lambda: waiting())() == threading.get_ident()
