"""One tree of errors. Fields first; the message is built from them, and names the thing, the value and the
fix."""

from heartwire.codes import CODES, Code

__all__ = [
    "ClosedAbnormally",
    "ConfigError",
    "ConnectionClosed",
    "EngineCorrupt",
    "EngineError",
    "EngineUnavailable",
    "Forbidden",
    "GivenUp",
    "HeartwireError",
    "LimitExceeded",
    "ProtocolError",
    "Refused",
    "Unauthorized",
    "UnknownChannel",
]


class HeartwireError(Exception):
    """The root. ``code`` is a name of `heartwire.codes`; ``retry`` says whether the same call may succeed
    later."""

    code: Code = CODES["internal"]

    @property
    def retry(self) -> bool:
        return self.code.retry


class ProtocolError(HeartwireError):
    """The peer broke the protocol."""

    code = CODES["bad_request"]


class Refused(HeartwireError):
    """A request that was answered with a refusal; a connection, where there is one, lives on.

    ``after_s`` is when a retry is welcome, where the server knows; ``allow`` the methods an address takes.
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
    """Raise it from ``@hub.authenticate``: who this is could not be established."""

    def __init__(self, message: str = "authentication failed: send valid credentials") -> None:
        super().__init__("unauthorized", message)


class Forbidden(Refused):
    """Raise it from a permission function, or return ``False`` there: they may not do this here."""

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
    """A value over its limit; both are in the message. ``setting`` is the option that raises the limit."""

    def __init__(self, name: str, what: str, value: float, limit: float, setting: str) -> None:
        self.value, self.limit, self.setting = value, limit, setting
        super().__init__(name, f"{what}: {value:.15g} is over the limit of {limit:.15g} ({setting})")


class ConnectionClosed(HeartwireError):
    """The connection ended; ``close_code`` and ``reason`` are what the peer sent, 1006 and "" when it sent
    nothing."""

    def __init__(self, close_code: int, reason: str) -> None:
        self.close_code, self.reason = close_code, reason
        super().__init__(f"connection closed with {close_code} {reason}".rstrip())

    @property
    def retry(self) -> bool:
        """Whether to come back; see `heartwire.codes` for the ranges."""
        code = self.close_code
        return not (
            code in (1002, 1003, 1007, 1008, 1009, 1010) or 3500 <= code < 4000 or 4500 <= code < 5000
        )


class ClosedAbnormally(ConnectionClosed):
    """The connection broke without a close frame."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(1006, reason)


class GivenUp(HeartwireError):
    """The client gave up what it was asked for: no answer in time, or it was closed.

    ``is_unknown``: the server may have done it all the same.
    """

    code = CODES["given_up"]

    def __init__(self, message: str, *, is_unknown: bool) -> None:
        self.is_unknown = is_unknown
        super().__init__(f"{message}; it may have reached the server" if is_unknown else message)


class EngineError(HeartwireError):
    """The store failed."""


class EngineUnavailable(EngineError):
    """The store did not answer or could not take it; nothing was stored, and a retry may succeed."""

    code = CODES["engine_unavailable"]


class EngineCorrupt(EngineError):
    """The store's content is damaged or not ours. It was left as it is."""


class ConfigError(HeartwireError):
    """At start only: names the setting, the value and the fix."""

    def __init__(self, setting: str, value: object, fix: str) -> None:
        self.setting, self.value, self.fix = setting, value, fix
        super().__init__(f"{setting} = {value!r}: {fix}")
