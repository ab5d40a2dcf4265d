"""The token a client shows: when the application is asked for one, and how long it lasts. Pure."""

from typing import Final

from heartwire.client.context import Context
from heartwire.client.outputs import AskToken
from heartwire.client.wire import ConnectResult, RefreshResult

__all__ = ["Tokens"]

_SHORTEST_TTL_S: Final = 1.0
"""However soon a token expires, the application is not asked for a new one more often."""


class Tokens:
    """The tokens of one client. ``can_ask``: the application gives one when it is asked (`AskToken`)."""

    def __init__(self, context: Context, *, can_ask: bool, token: str) -> None:
        self.token = token
        self._context = context
        self._deadlines = context.deadlines
        self._can_ask = can_ask
        self._is_asking = False
        self._ttl_s: float | None = None

    @property
    def is_missing(self) -> bool:
        """Whether the application has to be asked before a connection can be opened."""
        return self._can_ask and not self.token

    def ask(self) -> None:
        """Ask the application, unless it is being asked already."""
        if not self._is_asking:
            self._is_asking = True
            self._deadlines["token"] = self._context.now + self._context.options.open_timeout_cap_s
            self._context.outputs.append(AskToken())

    def answered(self, token: str | None) -> None:
        """Take the application's answer; ``None``: it has no token for now."""
        self._is_asking = False
        self._deadlines.pop("token", None)
        if token is not None:
            self.token = token

    def drop(self) -> bool:
        """Forget a token that the server refused. Return whether the application can give another."""
        if self._can_ask:
            self.token = ""
        return self._can_ask

    def expires(self, result: ConnectResult | RefreshResult) -> None:
        """Take from the server how long the connection may last."""
        self._ttl_s = result.ttl if result.expires else None
        self.plan_refresh()

    def plan_refresh(self) -> None:
        """Plan to renew it after 70 to 90 % of its lifetime, by chance: a crowd must not ask at once."""
        self._deadlines.pop("refresh", None)
        if self._can_ask and self._ttl_s is not None:
            after_s = self._ttl_s * (7 + 2 * self._context.draw()) / 10
            self._deadlines["refresh"] = self._context.now + max(_SHORTEST_TTL_S, after_s)

    def refresh_later(self, after_s: float = 0) -> None:
        """Ask again after ``later_s``, or after ``after_s`` where that is longer."""
        self._deadlines["refresh"] = self._context.now + max(self._context.options.later_s, after_s)
