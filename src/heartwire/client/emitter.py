"""The events of a client, and the functions of the application that listen to them."""

import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, Literal, get_args

__all__ = ["EVENTS", "Emitter", "Event", "call", "check_function"]

Event = Literal["open", "message", "close", "error", "state", "gap", "note"]
EVENTS: Final[tuple[Event, ...]] = get_args(Event)

_log: Final = logging.getLogger("heartwire.client")


class Emitter:
    """The listeners of one client."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[[Any], object]]] = {name: [] for name in EVENTS}

    def on(self, event: Event, function: Callable[[Any], object]) -> Callable[[], None]:
        """See `Client.on`."""
        if event not in self._listeners:
            raise ValueError(f"event {event!r}: there are {', '.join(EVENTS)}")
        check_function(function)
        listeners = self._listeners[event]
        listeners.append(function)

        def off() -> None:
            if function in listeners:
                listeners.remove(function)

        return off

    def emit(self, event: Event, value: Any) -> bool:
        """Call the listeners of an event. Return whether there are any."""
        listeners = self._listeners[event]
        for function in list(listeners):
            call(function, value)
        return bool(listeners)


def check_function(function: Callable[..., object]) -> None:
    """Raise ``TypeError`` unless it is a plain function."""
    if inspect.iscoroutinefunction(function) or not callable(function):
        hint = "from an async one, start a task, or iterate over the subscription"
        raise TypeError(f"{function!r}: a plain function; {hint}")


def call(function: Callable[[Any], object], value: Any) -> None:
    """Call a function of the application. Its exceptions are logged: they are not the connection's fault."""
    try:
        function(value)
    except Exception:
        _log.exception("a function that was given to the client failed")
