"""The connection that brings what is published: one for each server.

In: the feeds that the node wants; bytes, from asyncio. Out: messages and confirmations, to its owner. It
connects again by itself, and names all feeds again.
"""

import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final

from heartwire.engines.redis.connection import Lasting
from heartwire.engines.redis.greeting import check_server, open_pipe
from heartwire.engines.redis.pipe import Pipe, RedisError
from heartwire.engines.redis.server import Server
from heartwire.engines.redis.target import Target
from heartwire.errors import EngineUnavailable

__all__ = ["FeedConnection"]

_NAMES: Final = 1000
"""So many feeds are named in one command."""


class FeedConnection(Lasting):
    """See the module.

    Args:
        server: whose feed it is: both connections have to end in one process.
        wanted: the names of the feeds that are to be heard here.
        message: called with a feed's name and its message.
        confirmed: called with a feed's name, once it is heard.
        up: called when all have been named.
        lost: called when the connection is gone.
        left: called when a feed is not to be had here any more: it is another server's.

    Attributes:
        heard_at: when it brought something last; the owner's.
    """

    def __init__(
        self,
        server: Server,
        target: Target,
        tls: ssl.SSLContext | None,
        node: str,
        *,
        chance: Callable[[], float],
        wanted: Callable[[Server], Sequence[str]],
        message: Callable[["FeedConnection", bytes, bytes], None],
        confirmed: Callable[["FeedConnection", bytes], None],
        up: Callable[["FeedConnection"], None],
        lost: Callable[["FeedConnection", str], None],
        left: Callable[["FeedConnection", str], None],
    ) -> None:
        super().__init__(f"{server.name}, feed", chance)
        self.server, self.life = server, server.life
        self._target, self._tls, self._node = target, tls, node
        self._wanted, self._message, self._confirmed = wanted, message, confirmed
        self._tell_up, self._tell_lost, self._left = up, lost, left
        self.heard_at = 0.0
        self._leaving: set[bytes] = set()
        self._s = "S" if target.kind == "cluster" else ""
        self._calls_message = (self._s.lower() + "message").encode()
        self._calls_subscribe = (self._s.lower() + "subscribe").encode()

    def subscribe(self, names: Sequence[str]) -> None:
        """Hear more feeds. Without effect while the connection is away: all are named when it is back."""
        if self._pipe is not None:
            self._name(self._pipe, names)

    def unsubscribe(self, name: str) -> None:
        if self._pipe is not None:
            self._leaving.add(name.encode())
            self._pipe.write(self._s + "UNSUBSCRIBE", name)

    def _name(self, pipe: Pipe, names: Sequence[str]) -> None:
        if self._s:  # a cluster takes names of one slot in one command
            for name in names:
                pipe.write("SSUBSCRIBE", name)
            return
        for at in range(0, len(names), _NAMES):
            pipe.write("SUBSCRIBE", *names[at : at + _NAMES])

    async def _open(self) -> Pipe:
        server = self.server
        if not server.is_there:
            raise EngineUnavailable(f"{server.name}: the server is away")
        pipe = await open_pipe(server.address, self._target, self._tls, f"heartwire-{self._node}-feed")
        try:
            self.life = await check_server(pipe, server.address, self._target)
            if self.life != server.life:
                raise EngineUnavailable(f"{server.address} is another server than it was")
        except BaseException:
            pipe.abort("it is not the server that is wanted")
            raise
        pipe.hear = self._hear
        return pipe

    def _opened(self, pipe: Pipe) -> None:
        self._leaving.clear()
        self._name(pipe, self._wanted(self.server))
        self._tell_up(self)

    def _ended(self, why: str) -> None:
        self._tell_lost(self, why)

    def _hear(self, reply: Any) -> None:
        if isinstance(reply, RedisError):
            self.abort(str(reply))
            self._left(self, str(reply))
            return
        kind, name, what = reply
        if kind == self._calls_message:
            self._message(self, name, what)
        elif kind == self._calls_subscribe:
            self._leaving.discard(name)
            self._confirmed(self, name)
        elif name in self._leaving:
            self._leaving.discard(name)
        else:
            self._left(self, f"{kind.decode()} {name.decode()}")
