"""The driver of a client's machine on asyncio: it has clocks, a timer, sockets and tokens."""

import asyncio
import inspect
import logging
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Unpack

from heartwire.client import outputs as out
from heartwire.client.arguments import checked_token
from heartwire.client.links import Links
from heartwire.client.machine import LossFacts, Machine
from heartwire.client.options import Options
from heartwire.codes import close_code
from heartwire.errors import ConfigError

__all__ = ["Driver", "TokenSource"]

TokenSource = Callable[[], str | Awaitable[str]]

_log: Final = logging.getLogger("heartwire.client")


class Driver:
    """Carries out the outputs of a machine in order, and calls it in time. Made on the event loop it runs on.

    Call `carry_out` after each call of the machine. It may be called at any time, also from within itself, as
    by ``handle``, which is called with the outputs for the application. Other arguments: `heartwire.connect`.
    """

    def __init__(
        self,
        url: str,
        options: Options,
        handle: Callable[[out.Output], None],
        *,
        token: str,
        get_token: TokenSource | None,
        data: Any,
        wall: Callable[[], float],
        headers: Mapping[str, str] | None,
        ssl: Any,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.token = token
        self._handle = handle
        self._get_token = get_token
        self._wall = wall
        dead_after_s = options.ping_interval_s + options.pong_timeout_s
        self._links = Links(url, self, headers=headers, ssl=ssl, dead_after_s=dead_after_s)
        self._waiting: deque[out.Output] = deque()
        self._is_carrying = False
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self.machine = Machine(
            options,
            prefix=secrets.token_urlsafe(12),
            draw=random.random,
            now=self.now,
            wall=wall(),
            has_tokens=get_token is not None,
            token=token,
            data=data,
        )

    @property
    def now(self) -> float:
        """The machine's time."""
        return self.loop.time()

    def start(self) -> None:
        """Begin to connect."""
        self.machine.start(self.now)
        self.carry_out()

    async def aclose(self) -> None:
        """Close, and wait until sockets and tasks have ended; if cancelled, they still do. Idempotent."""
        self.machine.close(self.now)
        self.carry_out()
        asking = self._asking
        if asking is not None and asking is not asyncio.current_task():
            asking.cancel()
            await asyncio.wait([asking])
        await self._links.aclose()

    # -- outputs of the machine ------------------------------------------------------------------------------

    def carry_out(self) -> None:
        """Carry out the machine's outputs, and those that come of it, in order; then set the timer."""
        if self._is_carrying:
            return
        self._is_carrying = True
        try:
            while self._take():
                self._do(self._waiting.popleft())
        finally:  # where something was raised, the rest is carried out the next time
            self._is_carrying = False
            self._set_timer(self.machine.next_deadline())

    def drop_outputs_of(self, channel: str) -> None:
        """Drop the outputs of a channel that the application has not had yet."""
        self._take()
        self._waiting = deque(
            one for one in self._waiting if not (isinstance(one, out.OfChannel) and one.channel == channel)
        )

    def _take(self) -> bool:
        self._waiting.extend(self.machine.outputs)
        self.machine.outputs.clear()
        return bool(self._waiting)

    def _do(self, output: out.Output) -> None:
        match output:
            case out.Open():
                self._links.open(output)
            case out.Send():
                self._links.send(output)
            case out.Poll():
                self._links.poll(output)
            case out.Session():
                self._links.session(output)
            case out.Close():
                self._links.close(output)
            case out.AskToken():
                self._ask_token()
            case _:
                self._handle(output)

    def _set_timer(self, when: float | None) -> None:
        if self._timer is not None:
            if when is not None and self._timer.when() <= when:
                return  # early is harmless
            self._timer.cancel()
        self._timer = self.loop.call_at(when, self._handle_deadline) if when is not None else None

    def _handle_deadline(self) -> None:
        self._timer = None
        self.machine.handle_deadline(self.now, self._wall())
        self.carry_out()

    def _ask_token(self) -> None:
        if self._asking is not None:
            self._asking.cancel()  # the machine has given it up: it asks one at a time
        self._asking = self.loop.create_task(self._fetch_token())

    async def _fetch_token(self) -> None:
        assert self._get_token is not None
        try:
            answer = self._get_token()
            token = await answer if inspect.isawaitable(answer) else answer
            if token is None:
                raise TypeError("it returned None")
        except Exception as error:
            _log.warning("get_token: %r", error)
            self.machine.no_token(str(error) or type(error).__name__, self.now)
        else:
            self._take_token(token)
        self.carry_out()

    def _take_token(self, answer: object) -> None:
        try:
            self.token = checked_token("get_token", answer)
        except ConfigError as error:  # a fault of the program: it would be asked for ever
            self.machine.fail(close_code("unauthorized"), str(error), self.now)
        else:
            self.machine.token(self.token, self.now)

    # -- reports of the links: see heartwire.client.links.LinkListener ---------------------------------------

    def received(self, generation: int, data: str) -> None:
        """See `Machine.received`."""
        self.machine.received(generation, data, self.now)
        self.carry_out()

    def sent(self, generation: int) -> None:
        """See `Machine.sent`."""
        self.machine.sent(generation, self.now)
        self.carry_out()

    def polled(self, generation: int) -> None:
        """See `Machine.polled`."""
        self.machine.polled(generation, self.now)
        self.carry_out()

    def lost(self, generation: int, code: int, reason: str, **facts: Unpack[LossFacts]) -> None:
        """See `Machine.lost`."""
        self.machine.lost(generation, code, reason, self.now, **facts)
        self.carry_out()
