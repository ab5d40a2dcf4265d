"""`Client`, for asyncio, as applications see it. `machine` decides, `driver` carries out."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from heartwire.channels import check_idempotency_key, to_channel
from heartwire.client import outputs as out
from heartwire.client.arguments import check_headers, check_ssl, check_str, checked_token, start_of
from heartwire.client.emitter import Emitter, Event
from heartwire.client.machine import Hint
from heartwire.client.options import Options, check_options
from heartwire.client.received import (
    Received,
    encoded,
    error_of,
    history_of,
    json_of,
    presence_of,
    refused,
    rpc_of,
    value_of,
)
from heartwire.client.states import STREAM_CLOSED, State
from heartwire.client.subscription import Subscription, mark_retrieved
from heartwire.errors import ConfigError, ConnectionClosed, HeartwireError, Refused
from heartwire.types import Position, Start

if TYPE_CHECKING:
    from heartwire.client.driver import Driver, TokenSource
    from heartwire.client.streams import Stream, Streams

__all__ = ["Client"]

_log: Final = logging.getLogger("heartwire.client")


class Client:
    """One logical connection, over whatever transport the network lets through; see `connect`.

    Belongs to the event loop it was started on: elsewhere its methods raise ``RuntimeError``. For threads
    there is `heartwire.connect_sync`.

    Attributes:
        url: the server's address.
        options: see `Options`.
        wall_clock: seconds, as ``time.time``; for tests.
    """

    def __init__(
        self,
        url: str,
        options: Options,
        *,
        token: str = "",
        get_token: "TokenSource | None" = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        ssl: Any = True,
    ) -> None:
        check_options(options)
        self.url = url
        self.options = options
        self.wall_clock = time.time
        data = None if data is None else msgspec.Raw(json_of(data).encode())
        check_headers(headers)
        check_ssl(ssl)
        if get_token is not None and not callable(get_token):
            raise ConfigError("get_token", type(get_token), "a function; a token that lasts goes in token=")
        self._arguments = {"token": checked_token("token", token), "get_token": get_token, "data": data}
        self._arguments |= {"headers": headers, "ssl": ssl}
        self._events = Emitter()
        self._subscriptions: dict[str, Subscription] = {}
        self._publishes: dict[str, asyncio.Future[Position]] = {}
        self._requests: dict[int, asyncio.Future[str]] = {}
        self._end: HeartwireError | None = None
        self._changed: asyncio.Future[None] | None = None
        self._driver: Driver | None = None
        self._streams: Streams | None = None
        self._is_failing = False  # an attempt has failed, which is logged once, until one succeeds

    # -- life ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        is_hurried = kind is not None and not issubclass(kind, Exception)  # Ctrl-C, or cancelled
        await self._close(0 if is_hurried else self.options.close_timeout_s)

    def start(self) -> None:
        """Begin to connect, and return at once: calls wait meanwhile. ``RuntimeError`` the second time."""
        if self._driver is not None:
            raise RuntimeError("this client was started before: make another with heartwire.connect()")
        from heartwire.client.driver import Driver  # not above: imports aiohttp, which servers do without

        self._driver = Driver(self.url, self.options, self._handle, wall=self.wall_clock, **self._arguments)
        self._driver.start()

    async def close(self) -> None:
        """Wait up to ``close_timeout_s`` for pending publishes (the rest fails), then close. Idempotent."""
        await self._close(self.options.close_timeout_s)

    async def _close(self, patience_s: float) -> None:
        if self._driver is None:
            return
        driver = self._started()
        try:
            if patience_s and self._publishes and driver.machine.state in (State.ONLINE, State.CONNECTING):
                await asyncio.wait(list(self._publishes.values()), timeout=patience_s)
        finally:
            await driver.aclose()

    async def wait_online(self) -> None:
        """Wait until there is a connection. Raises the error that ends the client, if that comes first."""
        driver = self._running()
        while driver.machine.state is not State.ONLINE:
            if self._changed is None:
                self._changed = driver.loop.create_future()
            await asyncio.shield(self._changed)
            self._running()

    @property
    def state(self) -> str:
        """``connecting``, ``online``, ``waiting``, ``offline`` or ``closed``."""
        return (self._driver.machine.state if self._driver is not None else State.WAITING).value

    @property
    def transport(self) -> str:
        """The transport in use; "" where there is none."""
        return self._driver.machine.transport if self._driver is not None else ""

    @property
    def client_id(self) -> str:
        """The server's name for this client; "" before the first connection."""
        return self._driver.machine.client_id if self._driver is not None else ""

    @property
    def pending(self) -> int:
        """How many publishes are not answered yet."""
        return len(self._publishes)

    def on(self, event: Event, function: Callable[[Any], object]) -> Callable[[], None]:
        """Call a plain function on each event. Return a function that undoes this.

        ``open`` (the transport), ``message`` (each `Received`, of any channel), ``close`` (`Closed`),
        ``error`` (the error that ended the client), ``state`` (`StateChanged`), ``gap`` (`Gap`), ``note``
        (`Note`, a step on the ladder of transports).
        Raises ``ValueError`` for another name, ``TypeError`` for an ``async`` function.
        """
        return self._events.on(event, function)

    def hint(self, kind: Hint) -> None:
        """Report ``network_down``, ``network_up`` or ``wake``: the connection has to prove itself."""
        driver = self._started()
        driver.machine.hint(kind, driver.now)
        driver.carry_out()

    # -- channels --------------------------------------------------------------------------------------------

    def subscribe(
        self,
        channel: str,
        callback: Callable[[Received], object] | None = None,
        *,
        since: Start | str | None = None,
        token: str = "",
    ) -> Subscription:
        """Follow a channel, through whatever happens to the connection.

        Args:
            callback: a plain function, called with each publication; without it, iterate over the result.
            since: the position to begin after (or its text), or `EARLIEST` for the oldest kept; without it,
                from now on.
            token: of the subscription, where the server asks for one.
        Raises:
            Refused: ``already_subscribed``, ``bad_channel``.
            ConnectionClosed: the client is closed.
            ValueError: ``since`` is not a position.
        Promises: publications come in order, each once; those no longer available are reported as a ``gap``.
        """
        driver = self._running()
        start = start_of(since)
        check_str("token", token)
        if to_channel(channel) in self._subscriptions:
            hint = "use that subscription, or unsubscribe it first"
            raise Refused("already_subscribed", f"already subscribed to {channel!r}: {hint}")
        subscription = Subscription(self, channel, callback)
        self._subscriptions[channel] = subscription
        driver.machine.subscribe(channel, start, driver.now, token)
        driver.carry_out()
        return subscription

    async def publish(
        self, channel: str, data: object, *, idempotency_key: str = "", timeout_s: float | None = None
    ) -> Position:
        """Publish (str: text; bytes: bytes; anything else: JSON). Return the position once the server has it.

        Args:
            idempotency_key: whoever publishes again with the same key, it is applied once; 1 to 255 visible
                ASCII characters.
            timeout_s: how long to wait for the answer; without it ``max_pending_age_s``, which is the most.
        Raises:
            Refused: the server refused it; or ``limit_exceeded``, the message is too large or too many wait
                already; ``bad_channel``, ``bad_idempotency_key``.
            GivenUp: not answered within ``timeout_s``, or the client was closed meanwhile;
                ``is_unknown`` says whether the server may have it all the same.
            ConnectionClosed: the client was closed before.
            TypeError: ``data`` cannot be written as JSON.
            ValueError: ``timeout_s`` is not over 0.
        Promises: applied once, in the order of the calls, across reconnections. A cancelled call may still be
        applied.
        """
        driver = self._running()
        text, encoding = encoded(data)
        if idempotency_key != "":
            check_idempotency_key(idempotency_key)
        if timeout_s is not None and not timeout_s > 0:
            raise ValueError(f"timeout_s={timeout_s!r}: a number over 0")
        key = driver.machine.publish(to_channel(channel), text, encoding, driver.now, idempotency_key)
        answer: asyncio.Future[Position] = driver.loop.create_future()
        answer.add_done_callback(mark_retrieved)
        self._publishes[key] = answer
        driver.carry_out()
        if timeout_s is not None and not answer.done():
            timer = driver.loop.call_later(timeout_s, self._give_up, driver, key, timeout_s)
            answer.add_done_callback(lambda _: timer.cancel())
        return await answer

    def _give_up(self, driver: "Driver", key: str, timeout_s: float) -> None:
        driver.machine.give_up(key, f"not answered within {timeout_s:g} s (timeout_s)", driver.now)
        driver.carry_out()

    def stream(self, name: str, *, path: str = "streams") -> "Stream":
        """Return a durable stream, which is read and appended to by HTTP requests of its own.

        Works also before the client is started, so against any server of the Durable Streams protocol.

        Args:
            name: of the stream, or its whole address. What is on another host gets neither token nor headers.
            path: below which the server has its streams.
        Raises `Refused` (``bad_channel``) and `ConfigError`: the name, or the address, cannot be one.
        """
        if self._streams is None:
            from heartwire.client.streams import Streams  # as the driver

            arguments = {name: self._arguments[name] for name in ("token", "get_token", "headers", "ssl")}
            self._streams = Streams(self.url, self.options, **arguments)
        return self._streams.stream(name, path)

    async def presence(self, channel: str) -> dict[str, Any]:
        """Return the members by client id. Raises `Refused`, or `GivenUp` after ``request_timeout_s``."""
        return presence_of(await self._request("presence", {"channel": to_channel(channel)}))

    async def history(
        self, channel: str, *, limit: int = 100, since: Position | None = None, reverse: bool = False
    ) -> list[Received]:
        """Return a page of the publications kept. Raises as `presence` does."""
        body: dict[str, Any] = {"channel": to_channel(channel), "limit": limit, "reverse": reverse}
        if since is not None:
            body["since"] = {"epoch": since.epoch, "offset": since.offset}
        return history_of(channel, await self._request("history", body))

    async def rpc(self, method: str, data: Any = None) -> Any:
        """Call a function of the server (``@hub.rpc``) and return its answer. Raises as `presence` does.

        Promises: never called twice. Where the connection broke meanwhile, `GivenUp.is_unknown` is true.
        """
        argument = msgspec.Raw(json_of(data).encode())
        return rpc_of(await self._request("rpc", {"method": check_str("method", method), "data": argument}))

    async def _request(self, method: str, body: dict[str, Any]) -> str:
        driver = self._running()
        id = driver.machine.request(method, body, driver.now)
        answer: asyncio.Future[str] = driver.loop.create_future()
        self._requests[id] = answer
        answer.add_done_callback(mark_retrieved)
        driver.carry_out()
        try:
            return await answer
        finally:
            self._requests.pop(id, None)
            driver.machine.traffic.requests.cancel(id)

    def _started(self) -> "Driver":
        driver = self._driver
        if driver is None:
            hint = "use `async with heartwire.connect(...) as client`"
            raise RuntimeError(f"this client was not started: {hint}")
        if asyncio.get_running_loop() is not driver.loop:
            hint = "make one for each, or use heartwire.connect_sync"
            raise RuntimeError(f"this client belongs to another event loop: {hint}")
        return driver

    def _running(self) -> "Driver":
        driver = self._started()
        if self._end is not None:
            raise self._end.with_traceback(None)
        return driver

    def unsubscribe(self, subscription: Subscription) -> None:
        """See `Subscription.unsubscribe`."""
        channel = subscription.channel
        if self._subscriptions.get(channel) is subscription:
            driver = self._started()
            del self._subscriptions[channel]
            driver.drop_outputs_of(channel)
            driver.machine.unsubscribe(channel, driver.now)
            driver.carry_out()

    def pause(self, subscription: Subscription, *, is_paused: bool) -> None:
        """See `Machine.pause` and `Machine.resume`."""
        if self._subscriptions.get(subscription.channel) is subscription:
            driver = self._started()
            change = driver.machine.pause if is_paused else driver.machine.resume
            change(subscription.channel, driver.now)
            driver.carry_out()

    # -- outputs of the machine ------------------------------------------------------------------------------

    def _handle(self, output: out.Output) -> None:
        match output:
            case out.Delivered():
                self._deliver(output)
            case out.Published(key, epoch, offset):
                _settle(self._publishes.pop(key, None), Position(epoch, offset))
            case out.Rejected(key):
                _settle(self._publishes.pop(key, None), error_of(output))
            case out.Answered(id, result):
                _settle(self._requests.pop(id, None), result)
            case out.Failed(id):
                _settle(self._requests.pop(id, None), error_of(output))
            case out.Message(data):
                self._events.emit("message", value_of(data))
            case out.Note():
                self._events.emit("note", output)
            case out.Subscribed() | out.Unsubscribed() | out.Gap():
                self._handle_of_channel(output)
            case out.StateChanged(state):
                self._state_changed(output, state)
            case out.Closed(code, reason, _, next_attempt_s):
                self._log_closed(output)
                self._events.emit("close", output)
                if next_attempt_s < 0:
                    self._ended(code, reason)

    def _handle_of_channel(self, output: out.OfChannel) -> None:
        subscription = self._subscriptions.get(output.channel)  # None: the server has made it
        match output:
            case out.Subscribed(_, epoch, offset):
                if subscription is not None:
                    subscription.subscribed(Position(epoch, offset) if epoch else None)
            case out.Unsubscribed(channel, code, reason):
                if subscription is not None:
                    del self._subscriptions[channel]
                    if code == STREAM_CLOSED:
                        subscription.close(reason.removeprefix("stream closed: "))
                    else:
                        subscription.finish(refused(code, reason))
            case out.Gap():
                is_heard = subscription is not None and subscription.gap(output)
                if not self._events.emit("gap", output) and not is_heard:
                    _log.warning("channel %r: %s", output.channel, output)

    def _deliver(self, output: out.Delivered) -> None:
        received = Received.of(output)
        subscription = self._subscriptions.get(output.channel)
        if subscription is not None:
            subscription.take(received)
        self._events.emit("message", received)

    def _state_changed(self, output: out.StateChanged, state: str) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None
        self._events.emit("state", output)
        if state == "online":
            if self._is_failing:
                self._is_failing = False
                _log.warning("%s: connected, over %s", self.url, self.transport)
            self._events.emit("open", self.transport)

    def _log_closed(self, output: out.Closed) -> None:
        """Log a connection that ended and comes back by itself quietly, and the first attempt that fails."""
        if output.next_attempt_s < 0:
            return
        words = output.reason or output.code
        if output.was_open:
            _log.info("%s: the connection ended: %s", self.url, words)
        elif not self._is_failing:
            self._is_failing = True
            _log.warning("%s: cannot connect: %s; trying on", self.url, words)

    def _ended(self, code: int, reason: str) -> None:
        self._end = ConnectionClosed(code, reason)
        if code != 1000 and not self._events.emit("error", self._end):
            _log.error("%s: %s", self.url, self._end)
        subscriptions, self._subscriptions = self._subscriptions, {}
        for subscription in subscriptions.values():
            subscription.finish(None if code == 1000 else self._end)


def _settle(answer: "asyncio.Future[Any] | None", value: object) -> None:
    """Give a call its result or its error, if it still waits."""
    if answer is None or answer.done():
        return
    if isinstance(value, HeartwireError):
        answer.set_exception(value)
    else:
        answer.set_result(value)
