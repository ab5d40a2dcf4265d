"""Subscribers that keep a record: Heartwire's client on one transport, and a bare WebSocket."""

import asyncio
import random
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlsplit

from heartwire.client.connecting import connect
from heartwire.client.options import Options
from heartwire.client.outputs import Closed
from heartwire.compare.meter import Meter
from heartwire.compare.plan import BARE_RETRY_S, Kind, Plan, options_of, read_message
from heartwire.errors import ConfigError, HeartwireError
from heartwire.testing.faulty import FaultyNetwork

__all__ = ["Arrival", "Subscriber", "subscriber"]

_READY_S: Final = 30


class Arrival(NamedTuple):
    """A message: its number, when it was sent and when it came. Times are the event loop's."""

    number: int
    sent_at: float
    at: float


class Subscriber(ABC):
    """One subscriber behind a proxy of its own. ``async with`` waits until it has subscribed.

    Attributes:
        arrivals: the messages, in the order of arrival.
        noticed: when it noticed that its connection was gone, each time.
    """

    def __init__(self, kind: Kind, url: str, channel: str, token: str) -> None:
        self.kind, self.url, self.channel, self.token = kind, url, channel, token
        self.meter = Meter()
        self.network = FaultyNetwork.to(url, tap=self.meter.tap)
        self.arrivals: list[Arrival] = []
        self.noticed: list[float] = []
        self.numbers: set[int] = set()
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        await self.network.__aenter__()
        try:
            await asyncio.wait_for(self.join(), _READY_S)
        except (HeartwireError, OSError, TimeoutError) as error:
            await self.__aexit__()
            why = str(error) or f"no answer within {_READY_S} s"
            fix = f"cannot be subscribed to over {self.kind.label}: {why}"
            raise ConfigError("URL", self.url, fix) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()
        await self.network.__aexit__()

    @abstractmethod
    async def join(self) -> None:
        """Connect and subscribe. Returns when both are done."""

    @abstractmethod
    async def leave(self) -> None:
        """Disconnect, without waiting for the server. Idempotent."""

    def take(self, text: str) -> None:
        at = self._loop.time()
        number, sent_us = read_message(text)
        self.arrivals.append(Arrival(number, sent_us / 1e6, at))
        self.numbers.add(number)

    def lost(self) -> None:
        """Record that the connection is gone."""
        self.noticed.append(self._loop.time())


class _Client(Subscriber):
    """Heartwire's client."""

    def __init__(self, kind: Kind, url: str, channel: str, token: str, options: Options) -> None:
        super().__init__(kind, url, channel, token)
        self._options = options
        self._leave: Callable[[], Any] | None = None

    async def join(self) -> None:
        parts = urlsplit(self.url)
        context = _trusting(parts.hostname or "") if parts.scheme == "https" else True
        headers = {"Host": parts.netloc.rpartition("@")[2]}  # as without the proxy, so that all bytes are
        settings: dict[str, Any] = {"token": self.token, "headers": headers, "ssl": context}
        client = connect(self.network.url, options=self._options, **settings)
        client.on("close", self._closed)
        client.on("error", lambda error: None)  # `ready` raises it
        client.start()
        self._leave = client.close
        await client.subscribe(self.channel, lambda received: self.take(received.raw)).ready()

    async def leave(self) -> None:
        if self._leave is not None:
            await self._leave()

    def _closed(self, closed: Closed) -> None:
        if closed.was_open and closed.next_attempt_s >= 0:
            self.lost()


class _Bare(Subscriber):
    """A WebSocket as it is often written: no heartbeat, no position; connects again after a close."""

    _task: "asyncio.Task[None] | None" = None
    _socket: Any = None

    async def join(self) -> None:
        self._is_open = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        opened = asyncio.create_task(self._is_open.wait())
        await asyncio.wait([self._task, opened], return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            opened.cancel()
            self._task.result()

    async def leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        from websockets.exceptions import WebSocketException

        while True:
            try:
                await self._listen()
            except (OSError, WebSocketException):
                if not self._is_open.is_set():
                    raise  # not even once
            # At random, or a cut of whole seconds would suit it each time.
            await asyncio.sleep(BARE_RETRY_S * random.uniform(0.5, 1.5))

    async def _listen(self) -> None:
        from websockets.asyncio.client import connect as connect_bare

        url = f"{self.url.replace('http', 'ws', 1).rstrip('/')}/channels/{quote(self.channel, safe='')}"
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else None
        place: dict[str, Any] = {"host": "127.0.0.1", "port": self.network.port}
        off: dict[str, Any] = dict.fromkeys(("compression", "ping_interval", "proxy", "open_timeout"))
        socket = await connect_bare(url, additional_headers=headers, **place, **off)
        self._is_open.set()
        try:
            async for text in socket:
                self.take(text if isinstance(text, str) else text.decode())
            self.lost()
        except Exception:
            self.lost()
            raise
        finally:
            socket.transport.abort()  # a closing handshake would wait for the other side


class _TrustingContext(ssl.SSLContext):
    """Checks the certificate against the server's name, though the connection goes to the proxy."""

    server_name = ""

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **{**options, "server_hostname": self.server_name})


def _trusting(server_name: str) -> ssl.SSLContext:
    context = _TrustingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    context.server_name = server_name
    return context


def subscriber(kind: Kind, url: str, channel: str, plan: Plan, *, is_short: bool) -> Subscriber:
    """Make a subscriber; ``is_short``: with the shortened settings."""
    if kind.transport is None:
        return _Bare(kind, url, channel, plan.token)
    return _Client(kind, url, channel, plan.token, options_of(kind, plan, is_short=is_short))
