"""`connect`: the client for asyncio. What it decides is in `heartwire.client.machine`; here that meets clocks, sockets, callers."""

import asyncio
import inspect
import logging
import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from urllib.parse import urlsplit

import msgspec

from heartwire.client import outputs as out
from heartwire.client.machine import Hint, Machine
from heartwire.client.options import Options, Transport, check_options
from heartwire.client.received import Received, encoded, error_of, refused
from heartwire.client.states import State
from heartwire.client.subscription import Subscription, call, seen
from heartwire.errors import ConfigError, ConnectionClosed, HeartwireError, Refused
from heartwire.types import EARLIEST, Position, Start

if TYPE_CHECKING:
    from heartwire.client.links import Links

__all__ = ["Client", "connect"]

Event = Literal["open", "message", "close", "error", "state", "gap", "note"]
EVENTS: Final = ("open", "message", "close", "error", "state", "gap", "note")

TokenSource = Callable[[], str | Awaitable[str]]

_log: Final = logging.getLogger("heartwire.client")


def connect(
    url: str | None = None,
    *,
    scheme: Literal["http", "https"] = "http",
    host: str = "127.0.0.1",
    port: int = 8000,
    debug_url: str | None = None,
    token: str = "",
    get_token: TokenSource | None = None,
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
        token: who we are; or ``get_token``, a function (plain or async) that is asked for one, and again when it runs out.
        data: for the server's ``on_connect``; any JSON.
        transports: the ladder, best first; one name fixes the transport. Goes before that of ``options``.
        options: everything else; see `Options`.
        headers: sent with every request.
        ssl: an ``ssl.SSLContext``; ``False`` checks no certificate.
    Raises:
        ConfigError: an argument that cannot be; it names it.
    """
    chosen = debug_url or os.environ.get("HEARTWIRE_DEBUG_URL") or url or f"{scheme}://{host}:{port}"
    if transports is not None:
        options = (options or Options())._replace(transports=tuple(transports))
    return Client(_checked_url(chosen), options or Options(), token=token, get_token=get_token, data=data, headers=headers, ssl=ssl)


class Client:
    """One logical connection to a server, kept alive over whatever the network lets through. Made by `connect`.

    Not for several threads or event loops (`heartwire.connect_sync` is for code that has none).
    """

    def __init__(
        self,
        url: str,
        options: Options,
        *,
        token: str = "",
        get_token: TokenSource | None = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        ssl: Any = True,
    ) -> None:
        check_options(options)
        self.url = url
        self.options = options
        self.token = token
        self._get_token = get_token
        self._data = data
        self._headers = headers
        self._ssl = ssl
        self._listeners: dict[str, list[Callable[[Any], object]]] = {name: [] for name in EVENTS}
        self._subscriptions: dict[str, Subscription] = {}
        self._publishes: dict[str, asyncio.Future[Position]] = {}
        self._requests: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_carrying = False
        self._end: HeartwireError | None = None
        self._changed: asyncio.Future[None] | None = None
        self._machine: Machine | None = None
        self._links: Links | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to connect, on the running event loop. Returns at once: what is published and followed meanwhile waits.

        Raises ``RuntimeError`` where it was started before.
        """
        if self._machine is not None:
            raise RuntimeError("this client was started before: make another with heartwire.connect()")
        from heartwire.client.links import Links  # not above: brings aiohttp, which servers do without

        self._loop = asyncio.get_running_loop()
        self._links = Links(self.url, self, headers=self._headers, ssl=self._ssl)
        self._machine = Machine(
            self.options,
            prefix=secrets.token_urlsafe(12),
            draw=random.random,
            now=self._loop.time(),
            wall=time.time(),
            has_tokens=self._get_token is not None,
            token=self.token,
            data=self._data,
        )
        self._machine.start(self._loop.time())
        self._carry_out()

    async def close(self) -> None:
        """Leave: wait up to ``close_timeout_s`` for pending publishes, then close; what is pending still fails. Idempotent."""
        machine = self._machine
        if machine is None:
            return
        if self._publishes and machine.state is State.ONLINE:
            await asyncio.wait(list(self._publishes.values()), timeout=self.options.close_timeout_s)
        machine.close(self._loop.time())
        self._carry_out()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._links is not None:
            links, self._links = self._links, None
            await links.aclose()

    async def wait_online(self) -> None:
        """Wait until there is a connection. Raises what ended the client, if that comes first."""
        while self.state != "online":
            if self._end is not None:
                raise self._end
            if self._changed is None:
                self._changed = self._loop.create_future()
            await asyncio.shield(self._changed)

    @property
    def state(self) -> str:
        """``connecting``, ``online``, ``waiting``, ``offline`` or ``closed``."""
        return self._machine.state.value if self._machine is not None else State.WAITING.value

    @property
    def transport(self) -> str:
        """What carries it now; "": nothing does."""
        return self._machine.transport if self._machine is not None else ""

    @property
    def client_id(self) -> str:
        """What the server calls us; "" before it has."""
        return self._machine.client_id if self._machine is not None else ""

    @property
    def pending(self) -> int:
        """Publishes that are not answered yet."""
        return len(self._publishes)

    def on(self, event: Event, function: Callable[[Any], object]) -> Callable[[], None]:
        """Call a function (plain) whenever something happens; returns what takes it back.

        ``open`` (the transport), ``message`` (each `Received`, of any channel), ``close`` (`Closed`), ``error`` (what ended the
        client), ``state`` (`StateChanged`), ``gap`` (`Gap`), ``note`` (what the ladder does, in words).
        Raises ``ValueError`` for another name.
        """
        if event not in self._listeners:
            raise ValueError(f"event {event!r}: there are {', '.join(EVENTS)}")
        listeners = self._listeners[event]
        listeners.append(function)

        def off() -> None:
            if function in listeners:
                listeners.remove(function)

        return off

    def hint(self, kind: Hint) -> None:
        """Pass on what your system knows: ``network_down``, ``network_up``, ``wake``. The connection has to prove itself then."""
        if self._machine is not None:
            self._machine.hint(kind, self._loop.time())
            self._carry_out()

    # -- channels -----------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        channel: str,
        callback: Callable[[Received], object] | None = None,
        *,
        since: Start | str | None = None,
        token: str = "",
    ) -> "Subscription":
        """Follow a channel, through whatever happens to the connection.

        Args:
            callback: called with each publication; without it, iterate over what is returned.
            since: after which position to begin (or its token); `EARLIEST`: the oldest kept; without it: from now on.
            token: of the subscription, where the server asks for one.
        Raises:
            Refused: ``already_subscribed``.
        Promises: publications come in order, each once; what can't be had any more is told as a ``gap``.
        """
        if channel in self._subscriptions:
            raise Refused(
                "already_subscribed", f"already subscribed to {channel!r}: use that subscription, or unsubscribe it first"
            )
        machine = self._running()
        subscription = Subscription(self, channel, callback)
        self._subscriptions[channel] = subscription
        machine.subscribe(channel, _start(since), self._loop.time(), token)
        self._carry_out()
        return subscription

    async def publish(self, channel: str, data: object, *, idempotency_key: str = "") -> Position:
        """Publish (str: text; bytes: bytes; anything else: JSON), and return the position once the server has it.

        With an ``idempotency_key`` of yours it is applied once, whoever publishes it again with that key.

        Raises:
            Refused: the server said no; or ``limit_exceeded``, too much waits already or the message is too large.
            GivenUp: not answered within ``max_pending_age_s``, or the client was closed; ``is_unknown`` tells whether the server
                may have it all the same.
            TypeError: it cannot be written as JSON.
        Promises: applied once, in the order of the calls, across reconnections. A call that is cancelled may still be applied.
        """
        machine = self._running()
        text, encoding = encoded(data)
        key = machine.publish(channel, text, encoding, self._loop.time(), idempotency_key)
        answer: asyncio.Future[Position] = self._loop.create_future()
        answer.add_done_callback(seen)
        self._publishes[key] = answer
        self._carry_out()
        return await answer

    async def presence(self, channel: str) -> dict[str, Any]:
        """Who is in a channel, by client id. Raises `Refused`, or `GivenUp` after ``request_timeout_s``."""
        answer = await self._request("presence", {"channel": channel})
        return dict(answer.get("presence", {}))

    async def history(
        self, channel: str, *, limit: int = 100, since: Position | None = None, reverse: bool = False
    ) -> list[Received]:
        """A page of what is kept. Raises as `presence` does."""
        body: dict[str, Any] = {"channel": channel, "limit": limit, "reverse": reverse}
        if since is not None:
            body["since"] = {"epoch": since.epoch, "offset": since.offset}
        answer = await self._request("history", body)
        return [_from_history(channel, answer["epoch"], item) for item in answer["publications"]]

    async def rpc(self, method: str, data: Any = None) -> Any:
        """Call a function of the application (``@hub.rpc``); its answer. Raises as `presence` does.

        Promises: never called twice. Where the connection broke meanwhile, `GivenUp.is_unknown` is true.
        """
        answer = await self._request("rpc", {"method": method, "data": data})
        return answer.get("data")

    async def _request(self, method: str, body: dict[str, Any]) -> Any:
        machine = self._running()
        id = machine.request(method, body, self._loop.time())
        answer = self._requests[id] = self._loop.create_future()
        answer.add_done_callback(seen)
        self._carry_out()
        try:
            return await answer
        finally:
            self._requests.pop(id, None)
            machine.traffic.cancel(id)

    def _running(self) -> Machine:
        if self._end is not None:
            raise self._end
        if self._machine is None:
            raise RuntimeError("this client was not started: use `async with heartwire.connect(...) as client`")
        return self._machine

    # -- for a subscription -------------------------------------------------------------------------------------------

    def unsubscribe(self, subscription: Subscription) -> None:
        """See `Subscription.unsubscribe`."""
        if self._subscriptions.get(subscription.channel) is subscription and self._machine is not None:
            del self._subscriptions[subscription.channel]
            self._machine.unsubscribe(subscription.channel, self._loop.time())
            self._carry_out()

    def pause(self, channel: str, *, is_paused: bool) -> None:
        """See `Machine.pause` and `Machine.resume`."""
        if self._machine is not None:
            change = self._machine.pause if is_paused else self._machine.resume
            change(channel, self._loop.time())
            self._carry_out()

    # -- what the links say: see heartwire.client.links.Ears ----------------------------------------------------------

    def received(self, generation: int, data: str) -> None:
        """See `Machine.received`."""
        if self._machine is not None:
            self._machine.received(generation, data, self._loop.time())
            self._carry_out()

    def sent(self, generation: int) -> None:
        """See `Machine.sent`."""
        if self._machine is not None:
            self._machine.sent(generation, self._loop.time())
            self._carry_out()

    def polled(self, generation: int) -> None:
        """See `Machine.polled`."""
        if self._machine is not None:
            self._machine.polled(generation, self._loop.time())
            self._carry_out()

    def lost(
        self, generation: int, code: int, reason: str, *, is_reachable: bool = True, was_poll: bool = False, after_s: float = 0
    ) -> None:
        """See `Machine.lost`."""
        if self._machine is not None:
            now = self._loop.time()
            self._machine.lost(generation, code, reason, now, is_reachable=is_reachable, was_poll=was_poll, after_s=after_s)
            self._carry_out()

    # -- what the machine wants ---------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        """Do what the machine wants, and what that leads to, in order; then see when it wants to be called again."""
        machine = self._machine
        if self._is_carrying or machine is None:
            return
        self._is_carrying = True
        try:
            while machine.outputs:
                outputs = machine.outputs[:]
                machine.outputs.clear()
                for output in outputs:
                    self._do(output)
        finally:
            self._is_carrying = False
        self._set_timer(machine.next_deadline())

    def _set_timer(self, when: float | None) -> None:
        if self._timer is not None:
            if when is not None and self._timer.when() <= when:
                return  # early is harmless
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._handle_deadline) if when is not None else None

    def _handle_deadline(self) -> None:
        self._timer = None
        if self._machine is not None:
            self._machine.handle_deadline(self._loop.time(), time.time())
            self._carry_out()

    def _do(self, output: out.Output) -> None:
        match output:
            case out.Delivered():
                self._deliver(output)
            case out.Published(key, epoch, offset):
                self._settle(self._publishes.pop(key, None), Position(epoch, offset))
            case out.Rejected(key):
                self._fail(self._publishes.pop(key, None), error_of(output))
            case out.Answered(id, result):
                self._settle(self._requests.pop(id, None), msgspec.json.decode(result))
            case out.Failed(id):
                self._fail(self._requests.pop(id, None), error_of(output))
            case out.AskToken():
                self._run(self._fetch_token)
            case out.Open() | out.Send() | out.Poll() | out.Close() | out.Session():
                self._do_link(output)
            case _:
                self._tell(output)

    def _do_link(self, output: out.Open | out.Send | out.Poll | out.Close | out.Session) -> None:
        links = self._links
        if links is None:
            return
        match output:
            case out.Open():
                links.open(output)
            case out.Send():
                links.send(output)
            case out.Poll():
                links.poll(output)
            case out.Session():
                links.session(output)
            case out.Close():
                links.close(output)

    def _tell(self, output: out.Output) -> None:
        match output:
            case out.StateChanged(state):
                self._emit("state", output)
                if state == "online":
                    self._emit("open", self.transport)
                if self._changed is not None:
                    self._changed.set_result(None)
                    self._changed = None
            case out.Subscribed(channel, epoch, offset):
                if channel in self._subscriptions:  # else the server has made it
                    self._subscriptions[channel].subscribed(Position(epoch, offset) if epoch else None)
            case out.Unsubscribed(channel, code, reason):
                if channel in self._subscriptions:
                    self._subscriptions.pop(channel).end(refused(code, reason))
            case out.Gap():
                self._tell_gap(output)
            case out.Message(data):
                self._emit("message", msgspec.json.decode(data))
            case out.Closed(code, reason, _, next_attempt_s):
                self._emit("close", output)
                if next_attempt_s < 0:
                    self._ended(code, reason)
            case out.Note(text):
                self._emit("note", text)

    def _tell_gap(self, gap: out.Gap) -> None:
        subscription = self._subscriptions.get(gap.channel)
        is_heard = subscription is not None and subscription.gap(gap)
        if not self._emit("gap", gap) and not is_heard:
            _log.warning("channel %r: %s", gap.channel, gap)

    def _deliver(self, output: out.Delivered) -> None:
        received = Received.of(output)
        subscription = self._subscriptions.get(output.channel)
        if subscription is not None:
            subscription.take(received)
        self._emit("message", received)

    def _ended(self, code: int, reason: str) -> None:
        self._end = ConnectionClosed(code, reason)
        if code != 1000 and not self._emit("error", self._end):
            _log.error("%s: %s", self.url, self._end)
        subscriptions, self._subscriptions = self._subscriptions, {}
        for subscription in subscriptions.values():
            subscription.end(None if code == 1000 else self._end)

    def _emit(self, event: Event, value: Any) -> bool:
        """Tell those who listen; whether there are any. What they raise is logged: it is not the connection's fault."""
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

    async def _fetch_token(self) -> None:
        assert self._get_token is not None
        assert self._machine is not None
        try:
            token = self._get_token()
            self.token = await token if inspect.isawaitable(token) else token
        except Exception as error:
            _log.warning("get_token: %r", error)
            self._machine.no_token(str(error) or type(error).__name__, self._loop.time())
        else:
            self._machine.token(self.token, self._loop.time())
        self._carry_out()

    def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self._loop.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _start(since: Start | str | None) -> Position | Literal["earliest"] | None:
    if since is EARLIEST or since == "earliest":
        return "earliest"
    if isinstance(since, str):
        return Position.parse(since)
    return since if isinstance(since, Position) else None


def _checked_url(url: str) -> str:
    for name in ("ws", "wss"):
        if url.startswith(f"{name}://"):
            url = "http" + url.removeprefix("ws")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("url", url, "http://HOST:PORT or https://HOST:PORT, and the path where the hub is mounted")
    return url


def _from_history(channel: str, epoch: str, item: dict[str, Any]) -> Received:
    info, encoding = item.get("info") or {}, (item.get("tags") or {}).get("encoding", "")
    raw = msgspec.json.encode(item.get("data")).decode()
    return Received.of(out.Delivered(channel, epoch, item["offset"], raw, encoding, info.get("user", ""), info.get("client", "")))
