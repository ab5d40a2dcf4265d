"""The exceptions of python-socketio, by their names."""

from typing import Any

__all__ = [
    "BadNamespaceError",
    "ConnectionError",
    "ConnectionRefusedError",
    "DisconnectedError",
    "SocketIOError",
    "TimeoutError",
]


class SocketIOError(Exception):
    """The root of all of them."""


class ConnectionError(SocketIOError):
    """A connection cannot be made."""


class ConnectionRefusedError(ConnectionError):
    """Raised by a connect handler to keep a client out: the first argument is the error's ``message``, the
    others its ``data``."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        message = str(arguments[0]) if arguments else "Connection rejected by server"
        self.error_args: dict[str, Any] = {"message": message}
        if len(arguments) > 1:
            self.error_args["data"] = arguments[1] if len(arguments) == 2 else arguments[1:]


class TimeoutError(SocketIOError):
    """A client has not answered in time."""


class BadNamespaceError(SocketIOError):
    """A client is not in that namespace."""


class DisconnectedError(SocketIOError):
    """The client is gone."""
