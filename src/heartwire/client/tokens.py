"""The token a client shows: when the application is asked for one, and how long it lasts. Pure."""

from collections.abc import Callable
from typing import Final

from heartwire.client.options import Options
from heartwire.client.outputs import AskToken, Output
from heartwire.client.states import Deadlines
from heartwire.client.wire import ConnectResult, RefreshResult

__all__ = ["Tokens"]

_SHORTEST_TTL_S: Final = 1.0
"""However soon a token expires, the application is not asked for a new one more often."""


class Tokens:
    """The tokens of one client.

    Args:
        options: how long the application may take, and how long to wait after it gave none.
        outputs, deadlines: the machine's.
        draw: chance, from 0 to 1.
        can_ask: the application gives a token when it is asked (`AskToken`).
        token: the first one; "" for none.

    Attributes:
        token: the current one; "" for none.
    """

    def __init__(
        self,
        options: Options,
        outputs: list[Output],
        deadlines: Deadlines,
        *,
        draw: Callable[[], float],
        can_ask: bool,
        token: str,
    ) -> None:
        self.token = token
        self._options = options
        self._outputs = outputs
        self._deadlines = deadlines
        self._draw = draw
        self._can_ask = can_ask
        self._is_asking = False
        self._ttl_s: float | None = None

    @property
    def is_missing(self) -> bool:
        """Whether the application has to be asked before a connection can be opened."""
        return self._can_ask and not self.token

    def ask(self, now: float) -> None:
        """Ask the application, unless it is being asked already."""
        if not self._is_asking:
            self._is_asking = True
            self._deadlines["token"] = now + self._options.open_timeout_cap_s
            self._outputs.append(AskToken())

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

    def expires(self, result: ConnectResult | RefreshResult, now: float) -> None:
        """Take from the server how long the connection may last."""
        self._ttl_s = result.ttl if result.expires else None
        self.plan_refresh(now)

    def plan_refresh(self, now: float) -> None:
        """Plan to ask for a new token after 70 to 90 % of this one's lifetime, by chance: clients that
        connected at one moment do not ask at one moment."""
        self._deadlines.pop("refresh", None)
        if self._can_ask and self._ttl_s is not None:
            self._deadlines["refresh"] = now + max(_SHORTEST_TTL_S, self._ttl_s * (7 + 2 * self._draw()) / 10)

    def refresh_later(self, now: float, after_s: float = 0) -> None:
        """Ask again after ``later_s``, or after ``after_s`` where that is longer."""
        self._deadlines["refresh"] = now + max(self._options.later_s, after_s)
