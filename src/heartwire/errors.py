"""The tree of errors. Each has fields, and a message built from them that names the value and the fix."""

from typing import Any

from heartwire.codes import CODES, Code, verdict

__all__ = [
    "ClosedAbnormally",
    "ConfigError",
    "ConnectionClosed",
    "EngineCorrupt",
    "EngineError",
    "EngineUnavailable",
    "EngineUncertain",
    "Forbidden",
    "GivenUp",
    "HeartwireError",
    "LimitExceeded",
    "NotStarted",
    "ProtocolError",
    "Refused",
    "StreamCancelled",
    "Unauthorized",
    "UnknownChannel",
]


class HeartwireError(Exception):
    """The root. ``code`` is a row of `heartwire.codes`; ``retry``: the same call may succeed later."""

    code: Code = CODES["internal"]

    @property
    def retry(self) -> bool:
        return self.code.retry

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code.name!r}, {str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would call the class with the message alone. Most of them take fields instead: reading the
        # pickle fails, and with it the thread of a `multiprocessing.Pool` that takes the answers.
        return _made, (type(self), self.args, self.__dict__)


def _made(cls: type[HeartwireError], args: tuple[Any, ...], fields: dict[str, Any]) -> HeartwireError:
    """Return an error of these fields, without a call of ``__init__``."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class ProtocolError(HeartwireError):
    """The peer broke the protocol."""

    code = CODES["bad_request"]


class Refused(HeartwireError):
    """A refused request. Its connection, if it has one, stays open.

    Attributes:
        after_s: seconds after which a retry is welcome, if the server knows.
        allow: the HTTP methods that the address takes.
    """

    def __init__(
        self, name: str, message: str, *, after_s: float | None = None, allow: str | None = None
    ) -> None:
        self.code = CODES[name]
        self.allow = allow
        self.message = message
        self.after_s = after_s
        super().__init__(message)


class Unauthorized(Refused):
    """Raise it from ``@hub.authenticate`` when credentials are missing or not valid."""

    def __init__(self, message: str = "authentication failed: send valid credentials") -> None:
        super().__init__("unauthorized", message)


class Forbidden(Refused):
    """Raise it from a permission function to refuse with a message; returning ``False`` refuses without."""

    def __init__(self, message: str = "permission denied") -> None:
        super().__init__("forbidden", message)


class UnknownChannel(Refused):
    """The channel's namespace is not configured."""

    def __init__(self, channel: str, namespace: str) -> None:
        self.channel = channel
        super().__init__(
            "unknown_channel",
            f"channel {channel!r}: namespace {namespace!r} is not configured; add it, or set"
            " allow_unknown_namespaces",
        )


class LimitExceeded(Refused):
    """A value is over its limit; the message has both. ``setting`` is the option that raises the limit."""

    def __init__(self, name: str, what: str, value: float, limit: float, setting: str) -> None:
        self.value, self.limit, self.setting = value, limit, setting
        super().__init__(name, f"{what}: {value:.15g} is over the limit of {limit:.15g} ({setting})")


class ConnectionClosed(HeartwireError):
    """The connection ended, with the peer's ``close_code`` and ``reason``: 1006 and "" if it sent none."""

    def __init__(self, close_code: int, reason: str) -> None:
        self.close_code, self.reason = close_code, reason
        super().__init__(f"connection closed with {close_code} {reason}".rstrip())

    @property
    def retry(self) -> bool:
        """Whether a client comes back with the token it has; see `heartwire.codes.verdict`."""
        return verdict(self.close_code) in ("now", "later")


class ClosedAbnormally(ConnectionClosed):
    """The connection broke without a close frame."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(1006, reason)


class GivenUp(HeartwireError):
    """The client gave up a call: no answer in time, or the client was closed.

    ``is_unknown``: the server may have carried it out.
    """

    code = CODES["given_up"]

    def __init__(self, message: str, *, is_unknown: bool) -> None:
        self.is_unknown = is_unknown
        super().__init__(f"{message}; it may have reached the server" if is_unknown else message)


class StreamCancelled(HeartwireError):
    """The stream that a run writes was closed by somebody else, or its node stops.

    ``reason``: "aborted" (`heartwire.Hub.cancel_stream`), "interrupted" (the run was taken for dead, or the
    node stops), "deleted", or what else closed it.
    """

    code = CODES["stream_closed"]

    def __init__(self, stream: str, reason: str) -> None:
        self.stream, self.reason = stream, reason
        super().__init__(f"stream {stream!r} was ended ({reason}): stop producing")


class NotStarted(HeartwireError):
    """The hub does not run here: nothing was done."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}: run the hub's lifespan once, in the loop that serves it (lifespan=hub.lifespan, or async"
            " with hub.lifespan()); from another process, publish over the HTTP API"
        )


class EngineError(HeartwireError):
    """The store failed."""


class EngineUnavailable(EngineError):
    """The store did not answer, or refused: nothing was stored, and a retry may succeed."""

    code = CODES["engine_unavailable"]


class EngineUncertain(EngineError):
    """The store broke off before it answered: it may have stored it. The same idempotency key tells."""

    code = CODES["engine_uncertain"]


class EngineCorrupt(EngineError):
    """The store's content is damaged or not Heartwire's. It is left untouched."""


class ConfigError(HeartwireError):
    """A wrong setting; raised at the start only. Names the setting, the value and the fix."""

    def __init__(self, setting: str, value: object, fix: str) -> None:
        self.setting, self.value, self.fix = setting, value, fix
        super().__init__(f"{setting} = {value!r}: {fix}")
