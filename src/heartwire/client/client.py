"""`connect`: the client for asyncio, as applications see it. `heartwire.client.machine` decides; `driver`
does what it wants."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import msgspec

from heartwire.channels import to_channel
from heartwire.client import outputs as out
from heartwire.client.arguments import address, check_str, checked_url, start_of
from heartwire.client.machine import Hint
from heartwire.client.options import Options, Transport, check_options
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
from heartwire.client.states import State
from heartwire.client.subscription import Subscription, call, check_function, mark_retrieved
from heartwire.errors import ConnectionClosed, HeartwireError, Refused
from heartwire.types import Position, Start

if TYPE_CHECKING:
    from heartwire.client.driver import Driver, TokenSource

__all__ = ["Client", "Event", "connect"]

Event = Literal["open", "message", "close", "error", "state", "gap", "note"]
EVENTS: Final = ("open", "message", "close", "error", "state", "gap", "note")

_log: Final = logging.getLogger("heartwire.client")


def connect(
    url: str | None = None,
    *,
    scheme: Literal["http", "https"] = "http",
    host: str = "127.0.0.1",
    port: int = 8000,
    debug_url: str | None = None,
    token: str = "",
    get_token: "TokenSource | None" = None,
    data: Any = None,
    transports: Sequence[Transport] | None = None,
    options: Options | None = None,
    headers: Mapping[str, str] | None = None,
    ssl: Any = True,
) -> "Client":
    """A client of one server; ``async with`` it.

    Args:
        url: ``http://HOST:PORT`` or ``https://…``, with the path where the hub is mounted, if any.
        scheme, host, port: instead of ``url``.
        debug_url: goes before that; so does the environment's ``HEARTWIRE_DEBUG_URL``.
        token: who we are; or ``get_token``, a function (plain or async) that is asked for one, and again when
            it runs out. It has ``open_timeout_cap_s``; then it is cancelled, and asked again after a wait.
        data: for the server's ``on_connect``; any JSON.
        transports: the ladder, best first; one name fixes the transport. Goes before that of ``options``.
        options: everything else; see `Options`.
        headers: sent with every request.
        ssl: an ``ssl.SSLContext``; ``False`` checks no certificate.
    Raises:
        ConfigError: an argument that cannot be; it names it.
    """
    chosen = (
        debug_url
        or os.environ.get("HEARTWIRE_DEBUG_URL")
        or (address(scheme, host, port) if url is None else url)
    )
    if transports is not None:
        options = (options or Options())._replace(transports=tuple(transports))
    return Client(
        checked_url(chosen),
        options or Options(),
        token=token,
        get_token=get_token,
        data=data,
        headers=headers,
        ssl=ssl,
    )


class Client:
    """One logical connection to a server, kept alive over whatever the network lets through. Made by
    `connect`.

    Belongs to the event loop it was started on: elsewhere its methods raise ``RuntimeError``
    (`heartwire.connect_sync` is for threads).

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
        self._token = check_str("token", token)
        self._get_token = get_token
        self._data = None if data is None else msgspec.Raw(json_of(data).encode())
        self._headers = headers
        self._ssl = ssl
        self._listeners: dict[str, list[Callable[[Any], object]]] = {name: [] for name in EVENTS}
        self._subscriptions: dict[str, Subscription] = {}
        self._publishes: dict[str, asyncio.Future[Position]] = {}
        self._requests: dict[int, asyncio.Future[str]] = {}
        self._end: HeartwireError | None = None
        self._changed: asyncio.Future[None] | None = None
        self._driver: Driver | None = None

    # -- life ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_hurried = kind is not None and not issubclass(kind, Exception)  # Ctrl-C, or cancelled
        await self._close(0 if is_hurried else self.options.close_timeout_s)

    def start(self) -> None:
        """Begin to connect, on the running event loop. Returns at once: what is published and followed
        meanwhile waits.

        Raises ``RuntimeError`` where it was started before.
        """
        if self._driver is not None:
            raise RuntimeError("this client was started before: make another with heartwire.connect()")
        from heartwire.client.driver import Driver  # not above: brings aiohttp, which servers do without

        self._driver = Driver(
            self.url,
            self.options,
            self._tell,
            token=self._token,
            get_token=self._get_token,
            data=self._data,
            wall=self.wall_clock,
            headers=self._headers,
            ssl=self._ssl,
        )
        self._driver.start()

    async def close(self) -> None:
        """Leave: wait up to ``close_timeout_s`` for pending publishes, then close; what is pending still
        fails. Idempotent.

        ``async with`` does it; where that is cancelled, without the wait.
        """
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
        """Wait until there is a connection. Raises what ended the client, if that comes first."""
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
        """What carries it now; "": nothing does."""
        return self._driver.machine.transport if self._driver is not None else ""

    @property
    def client_id(self) -> str:
        """What the server calls us; "" before it has."""
        return self._driver.machine.client_id if self._driver is not None else ""

    @property
    def pending(self) -> int:
        """Publishes that are not answered yet."""
        return len(self._publishes)

    def on(self, event: Event, function: Callable[[Any], object]) -> Callable[[], None]:
        """Call a function (plain) whenever something happens; returns what takes it back.

        ``open`` (the transport), ``message`` (each `Received`, of any channel), ``close`` (`Closed`),
        ``error`` (what ended the client), ``state`` (`StateChanged`), ``gap`` (`Gap`), ``note`` (what the
        ladder does, in words).
        Raises ``ValueError`` for another name, ``TypeError`` for an ``async`` function.
        """
        if event not in self._listeners:
            raise ValueError(f"event {event!r}: there are {', '.join(EVENTS)}")
        check_function(function)
        listeners = self._listeners[event]
        listeners.append(function)

        def off() -> None:
            if function in listeners:
                listeners.remove(function)

        return off

    def hint(self, kind: Hint) -> None:
        """Pass on what your system knows: ``network_down``, ``network_up``, ``wake``. The connection has to
        prove itself then."""
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
            callback: called with each publication (plain); without it, iterate over what is returned.
            since: after which position to begin (or its token); `EARLIEST`: the oldest kept; without it: from
                now on.
            token: of the subscription, where the server asks for one.
        Raises:
            Refused: ``already_subscribed``, ``bad_channel``.
            ConnectionClosed: the client is closed.
            ValueError: ``since`` is no position.
        Promises: publications come in order, each once; what can't be had any more is told as a ``gap``.
        """
        driver = self._running()
        start = start_of(since)
        check_str("token", token)
        if to_channel(channel) in self._subscriptions:
            raise Refused(
                "already_subscribed",
                f"already subscribed to {channel!r}: use that subscription, or unsubscribe it first",
            )
        subscription = Subscription(self, channel, callback)
        self._subscriptions[channel] = subscription
        driver.machine.subscribe(channel, start, driver.now, token)
        driver.carry_out()
        return subscription

    async def publish(self, channel: str, data: object, *, idempotency_key: str = "") -> Position:
        """Publish (str: text; bytes: bytes; anything else: JSON), and return the position once the server has
        it.

        With an ``idempotency_key`` of yours it is applied once, whoever publishes it again with that key.

        Raises:
            Refused: the server said no; or ``limit_exceeded``, too much waits already or the message is too
            large. GivenUp: not answered within ``max_pending_age_s``, or the client was closed meanwhile;
            ``is_unknown`` tells whether the
                server may have it all the same.
            ConnectionClosed: the client was closed before.
            TypeError: it cannot be written as JSON.
        Promises: applied once, in the order of the calls, across reconnections. A call that is cancelled may
        still be applied.
        """
        driver = self._running()
        text, encoding = encoded(data)
        key = driver.machine.publish(
            to_channel(channel), text, encoding, driver.now, check_str("idempotency_key", idempotency_key)
        )
        answer: asyncio.Future[Position] = driver.loop.create_future()
        answer.add_done_callback(mark_retrieved)
        self._publishes[key] = answer
        driver.carry_out()
        return await answer

    async def presence(self, channel: str) -> dict[str, Any]:
        """Who is in a channel, by client id. Raises `Refused`, or `GivenUp` after ``request_timeout_s``."""
        return presence_of(await self._request("presence", {"channel": to_channel(channel)}))

    async def history(
        self, channel: str, *, limit: int = 100, since: Position | None = None, reverse: bool = False
    ) -> list[Received]:
        """A page of what is kept. Raises as `presence` does."""
        body: dict[str, Any] = {"channel": to_channel(channel), "limit": limit, "reverse": reverse}
        if since is not None:
            body["since"] = {"epoch": since.epoch, "offset": since.offset}
        return history_of(channel, await self._request("history", body))

    async def rpc(self, method: str, data: Any = None) -> Any:
        """Call a function of the application (``@hub.rpc``); its answer. Raises as `presence` does.

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
            raise RuntimeError(
                "this client was not started: use `async with heartwire.connect(...) as client`"
            )
        if asyncio.get_running_loop() is not driver.loop:
            raise RuntimeError(
                "this client belongs to another event loop: make one for each, or use heartwire.connect_sync"
            )
        return driver

    def _running(self) -> "Driver":
        driver = self._started()
        if self._end is not None:
            raise self._end.with_traceback(None)
        return driver

    # -- for a subscription ----------------------------------------------------------------------------------

    def unsubscribe(self, subscription: Subscription) -> None:
        """See `Subscription.unsubscribe`."""
        channel = subscription.channel
        if self._subscriptions.get(channel) is subscription:
            driver = self._started()
            del self._subscriptions[channel]
            driver.forget(channel)
            driver.machine.unsubscribe(channel, driver.now)
            driver.carry_out()

    def pause(self, subscription: Subscription, *, is_paused: bool) -> None:
        """See `Machine.pause` and `Machine.resume`."""
        if self._subscriptions.get(subscription.channel) is subscription:
            driver = self._started()
            change = driver.machine.pause if is_paused else driver.machine.resume
            change(subscription.channel, driver.now)
            driver.carry_out()

    # -- what the machine tells ------------------------------------------------------------------------------

    def _tell(self, output: out.Output) -> None:
        match output:
            case out.Delivered():
                self._deliver(output)
            case out.Published(key, epoch, offset):
                self._settle(self._publishes.pop(key, None), Position(epoch, offset))
            case out.Rejected(key):
                self._fail(self._publishes.pop(key, None), error_of(output))
            case out.Answered(id, result):
                self._settle(self._requests.pop(id, None), result)
            case out.Failed(id):
                self._fail(self._requests.pop(id, None), error_of(output))
            case out.Message(data):
                self._emit("message", value_of(data))
            case out.Note():
                self._emit("note", output)
            case out.Subscribed() | out.Unsubscribed() | out.Gap():
                self._tell_of_channel(output)
            case out.StateChanged(state):
                self._state_changed(output, state)
            case out.Closed(code, reason, _, next_attempt_s):
                self._emit("close", output)
                if next_attempt_s < 0:
                    self._ended(code, reason)

    def _tell_of_channel(self, output: out.Subscribed | out.Unsubscribed | out.Gap) -> None:
        subscription = self._subscriptions.get(output.channel)  # None: the server has made it
        match output:
            case out.Subscribed(_, epoch, offset):
                if subscription is not None:
                    subscription.subscribed(Position(epoch, offset) if epoch else None)
            case out.Unsubscribed(channel, code, reason):
                if subscription is not None:
                    del self._subscriptions[channel]
                    subscription.end(refused(code, reason))
            case out.Gap():
                is_heard = subscription is not None and subscription.gap(output)
                if not self._emit("gap", output) and not is_heard:
                    _log.warning("channel %r: %s", output.channel, output)

    def _deliver(self, output: out.Delivered) -> None:
        received = Received.of(output)
        subscription = self._subscriptions.get(output.channel)
        if subscription is not None:
            subscription.take(received)
        self._emit("message", received)

    def _state_changed(self, output: out.StateChanged, state: str) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None
        self._emit("state", output)
        if state == "online":
            self._emit("open", self.transport)

    def _ended(self, code: int, reason: str) -> None:
        self._end = ConnectionClosed(code, reason)
        if code != 1000 and not self._emit("error", self._end):
            _log.error("%s: %s", self.url, self._end)
        subscriptions, self._subscriptions = self._subscriptions, {}
        for subscription in subscriptions.values():
            subscription.end(None if code == 1000 else self._end)

    def _emit(self, event: Event, value: Any) -> bool:
        """Tell those who listen; whether there are any. What they raise is logged: it is not the connection's
        fault."""
        listeners = self._listeners[event]
        for function in list(listeners):
            call(function, value)
        return bool(listeners)

    def _settle(self, answer: "asyncio.Future[Any] | None", value: Any) -> None:
        if answer is not None and not answer.done():
            answer.set_result(value)

    def _fail(self, answer: "asyncio.Future[Any] | None", error: HeartwireError) -> None:
        if answer is not None and not answer.done():
            answer.set_exception(error)
