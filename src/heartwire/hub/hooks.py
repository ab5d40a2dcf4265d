"""The application's functions for connections that send commands, and how they are called.

All of them may be async, or sync: then they run in a thread (`Hub` sees to it). What they raise: a
`heartwire.Refused` (or `Forbidden`, `Unauthorized`) is sent to the client; anything else is logged with its
traceback, the client receives ``internal``, and the connection lives.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from heartwire.errors import Refused
from heartwire.hub.connections import Connection
from heartwire.hub.identity import Identity, called, finished
from heartwire.hub.threads import called_in
from heartwire.messages import Body, to_body, to_json
from heartwire.types import ServerSubscription

__all__ = ["ConnectedClient", "Disconnect", "Hooks", "answer_bytes"]

log = logging.getLogger("heartwire")


class Disconnect(NamedTuple):
    """The reason for the end of a connection: a code of `docs/codes.md` (3000: the client left), and
    words."""

    code: int
    reason: str


class ConnectedClient:
    """One connection that sends commands, for the application's functions. Its methods work from any thread.

    Attributes:
        data: what the client sent with ``connect``, parsed; ``None`` where it sent nothing, and after
            ``connect``.
        name, version: the client software's own; "" after ``connect``.
        wanted: subscriptions that a connect hook has asked for, which begin with the connection.
    """

    __slots__ = ("_connection", "_loop", "data", "name", "version", "wanted")

    def __init__(
        self, connection: Connection, *, data: Any = None, name: str = "", version: str = ""
    ) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self.wanted: list[ServerSubscription] = []
        self.data = data
        self.name = name
        self.version = version

    @property
    def id(self) -> str:
        """Unique among all connections of all nodes."""
        return self._connection.id

    @property
    def identity(self) -> Identity:
        """The user and what others see of them."""
        return self._connection.identity

    @property
    def user(self) -> str:
        """The user's name, "" when anonymous."""
        return self.identity.user

    @property
    def info(self) -> bytes | None:
        """JSON that others see."""
        return self.identity.info

    @property
    def channels(self) -> list[str]:
        """The channels it is subscribed to now."""
        return self._connection.channels

    async def subscribe(self, channel: str, *, info: bytes | None = None, data: object = None) -> None:
        """Subscribe it to a channel; in a connect hook, as part of the connection's beginning. Raises
        `Refused`."""
        subscription = ServerSubscription(channel, info, answer_bytes(data))
        if not self._connection.is_open:
            self.wanted.append(subscription)
            return
        wait = self._connection.subscribe(subscription)
        if wait is not None:
            await wait

    def unsubscribe(self, channel: str, *, code: int = 2000, reason: str = "server unsubscribe") -> bool:
        """End a subscription; returns whether there was one. Codes from 2500 on ask the client to subscribe
        again."""
        return called_in(self._loop, self._connection.unsubscribe, channel, code, reason)

    def send(self, data: object) -> None:
        """Send it a message that belongs to no channel."""
        encoded = answer_bytes(data)
        called_in(self._loop, self._connection.send, b"null" if encoded is None else encoded)

    def disconnect(self, code: int = 3503, reason: str = "force disconnect") -> None:
        """End the connection. Codes of 3000-3499 and 4000-4499 ask the client to come back, others not to."""
        called_in(self._loop, self._connection.disconnect, code, reason)


ConnectHook = Callable[[ConnectedClient], Any]
DisconnectHook = Callable[[ConnectedClient, Disconnect], Any]
PublishHook = Callable[[Identity, str, bytes], Any]
RpcHook = Callable[[ConnectedClient, Any], Any]


class Hooks:
    """The functions of one hub."""

    def __init__(self) -> None:
        self.connect: ConnectHook | None = None
        self.disconnect: DisconnectHook | None = None
        self.publish: PublishHook | None = None
        self.message: RpcHook | None = None
        self.rpc: dict[str, RpcHook] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def task(self, work: Awaitable[Any]) -> "asyncio.Task[Any]":
        """Run in a task, so that timeouts and cancel scopes work in it."""
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def call_rpc(
        self, client: ConnectedClient, method: str, data: Any
    ) -> Awaitable[bytes | None] | bytes | None:
        """Call a method. Raises `Refused` (``method_not_found``, ``not_available``)."""
        handler = self.rpc.get(method)
        if handler is None:
            if not self.rpc:
                raise Refused("not_available", "there are no RPC methods")
            raise Refused("method_not_found", f"no method {method[:64]!r}")
        answer = called(handler, client, data)
        return self.task(_encoded(answer)) if inspect.isawaitable(answer) else answer_bytes(answer)

    def call_publish(self, identity: Identity, channel: str, body: Body) -> Body | Awaitable[Body]:
        """Return the body to publish in place of ``body``, or an awaitable of it."""
        assert self.publish is not None
        answer = called(self.publish, identity, channel, body.data)
        return self.task(_changed(answer, body)) if inspect.isawaitable(answer) else _replaced(answer, body)

    def call_disconnect(self, connection: Connection, code: int, reason: str) -> None:
        """Report the end of a connection."""
        if self.disconnect is None:
            return
        try:
            answer = called(self.disconnect, ConnectedClient(connection), Disconnect(code, reason))
        except Exception:
            log.exception("on_disconnect failed")
            return
        if inspect.isawaitable(answer):
            self.task(_logged(answer, "on_disconnect"))


def answer_bytes(value: object) -> bytes | None:
    """An answer of the application as bytes: bytes as they are, anything else as JSON. Raises
    ``TypeError``."""
    if value is None or isinstance(value, bytes):
        return value
    return to_json(value)


async def _encoded(answer: Awaitable[Any]) -> bytes | None:
    return answer_bytes(await finished(answer))


async def _changed(answer: Awaitable[Any], body: Body) -> Body:
    return _replaced(await finished(answer), body)


def _replaced(answer: Any, body: Body) -> Body:
    return body if answer is None else to_body(answer)


async def _logged(answer: Awaitable[Any], what: str) -> None:
    try:
        await finished(answer)
    except Exception:
        log.exception("%s failed", what)
