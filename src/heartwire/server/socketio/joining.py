"""How a client comes into a namespace: new, or after a break, when it goes on where it was.

In: CONNECT packets, from the server. Out: their answers; members, to routers; questions to the program and to
the node that had the client.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from heartwire.dialects.socketio import packet as wire
from heartwire.dialects.socketio.session import ClientSession, NamespaceSocket
from heartwire.errors import HeartwireError, Refused
from heartwire.hub.node import Node
from heartwire.server.socketio.environ import environ_of
from heartwire.server.socketio.members import Member
from heartwire.server.socketio.program import Program, Refusal
from heartwire.server.socketio.recovery import Held, Recovery, Saved, is_secret
from heartwire.server.socketio.router import Router
from heartwire.types import Position

__all__ = ["Server", "hear_evictions", "join"]

log = logging.getLogger("heartwire")

_ON_BUS: Final = "socketio-evict"
_EVICT_S: Final = 1
"""How long the node that had a client may take to let it go."""


class Server(Protocol):
    """What joining needs of the server."""

    node: Node
    program: Program
    recovery: Recovery | None
    routers: dict[str, Router]
    accepts_first: bool

    def router(self, namespace: str) -> Router: ...
    def new_sid(self) -> str: ...
    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]: ...
    async def leave(self, member: Member, reason: str) -> None: ...


async def join(server: Server, client: ClientSession, namespace: str, auth: Any) -> None:
    """Answer a CONNECT."""
    try:
        router = server.router(namespace)
        router.joining += 1
        try:
            await router.ready()
            member, position, auth = await _member(server, router, client, auth)
            router.add(member, position)
        finally:
            router.joining -= 1
    except Refused as error:
        client.refuse(namespace, {"message": str(error)})
        return
    except HeartwireError as error:
        log.error("namespace %s cannot be joined: %s", namespace, error)
        client.engine.close("forced close")
        return
    except Exception:
        client.refuse(namespace, {"message": "internal server error"})
        raise
    await _ask(server, router, member, auth)


async def _ask(server: Server, router: Router, member: Member, auth: Any) -> None:
    """Ask the program, and answer the client."""
    recovery = server.recovery
    if server.accepts_first and not await _begin(server, router, member):
        return
    try:
        await server.program.connect(member, auth)
    except Refusal as refusal:
        router.flush()
        router.forget(member)
        _refuse(member, refusal.data)
        if recovery is not None:
            await recovery.drop(member)
        return
    except Exception:
        router.forget(member)
        _refuse(member, {"message": "internal server error"})
        raise
    if not server.accepts_first:
        await _begin(server, router, member)


async def _begin(server: Server, router: Router, member: Member) -> bool:
    """Have a client that is let in go live, and tell it. Returns whether it is in."""
    recovery, client = server.recovery, member.socket.client
    if recovery is not None and member.recovery is not None and not await _saved(recovery, member):
        client.engine.close("forced close")
        if not member.is_gone:  # the program has let it in
            await server.leave(member, "transport error")
        return False
    begun = router.begin(member, lambda: _accept(member))
    if begun is not None:
        await begun
    if client.engine.is_over and not member.is_gone:
        await server.leave(member, "transport close")
    return not member.is_gone


def _refuse(member: Member, data: Any) -> None:
    """Tell a client that it is not let in; the program, which knows that, is not told that it has left."""
    socket = member.socket
    client, namespace = socket.client, socket.namespace
    if not socket.is_connected:
        client.refuse(namespace, data)
        return
    socket.send(wire.DISCONNECT, data)
    socket.is_connected = False
    del client.sockets[namespace]


async def _saved(recovery: Recovery, member: Member) -> bool:
    """Keep what a client is, before it is told that it is connected."""
    try:
        return await recovery.save(member)
    except (HeartwireError, TypeError, ValueError, OverflowError) as error:  # or what its session holds
        log.error("a client of %s cannot be kept for its return: %s", member.socket.namespace, error)
        return False


def _accept(member: Member) -> None:
    client = member.socket.client
    if member.socket.is_connected or client.engine.is_over:
        return
    answer = {"sid": member.sid}
    if member.recovery is not None and member.has_offsets:
        answer["pid"] = member.recovery.pid
    client.accept(member.socket, answer)


async def _member(
    server: Server, router: Router, client: ClientSession, auth: Any
) -> tuple[Member, Position | None, Any]:
    """Make the member, where it begins, and its auth without what is ours. Raises `EngineError`."""
    recovery = server.recovery
    environ = {} if recovery is None else environ_of(client)
    knows = recovery is not None and recovery.options.applies(environ, auth)
    asked: dict[str, Any] = auth if knows and isinstance(auth, dict) else {}
    pid: object = asked.get("pid")
    if recovery is not None and not knows:
        pid = recovery.pid_of(router.namespace, environ, auth)
    if recovery is None or not (knows or pid):
        socket = NamespaceSocket(client, router.namespace, server.new_sid())
        return Member(socket, has_offsets=False), None, auth
    if asked:
        auth = {name: value for name, value in asked.items() if name not in ("pid", "offset")} or None
    is_known = not knows or is_secret(pid)
    taken = await _take(server, router, client, str(pid), asked.get("offset")) if is_known else None
    if taken is not None:
        saved, held, position = taken
        member = Member(NamespaceSocket(client, router.namespace, saved.sid), has_offsets=knows)
        member.recovery, member.session, member.is_recovered = held, saved.session, True
        member.rooms, member.commanded = dict(saved.rooms), saved.commanded
        member.since = router.position.offset if router.position is not None else 0
        return member, position, auth
    member = Member(NamespaceSocket(client, router.namespace, server.new_sid()), has_offsets=knows)
    router.flush()
    assert router.position is not None
    recovery.begin(member, router.position, "" if knows else str(pid))
    return member, router.position, auth


async def _take(
    server: Server, router: Router, client: ClientSession, pid: str, offset: object
) -> tuple[Saved, Held, Position] | None:
    """Take over who a client says it was; ``None``: it begins anew."""
    recovery = server.recovery
    assert recovery is not None
    connection = client.connection
    taken = await recovery.take(pid, router.namespace, connection.engine.sid, connection.identity.user)
    if taken is None:
        return None
    saved, held = taken
    await _evict(server, router, saved)
    position = saved.position(offset)
    if not await router.continues(position):
        await recovery.discard(held)
        return None
    return saved, held, position


async def _evict(server: Server, router: Router, saved: Saved) -> None:
    """Have whoever holds a client let it go: its end was not noticed, or it is on its way."""
    bus, here = server.node.bus, server.node.connections.node_id
    if saved.node == here:  # a handler may take its time
        await asyncio.wait([server.run(_let_go(server, router.namespace, saved.sid))], timeout=_EVICT_S)
        return
    try:
        about = (router.namespace, saved.sid)
        await bus.ask(saved.node, _ON_BUS, about, within_s=_EVICT_S)
    except HeartwireError as error:
        log.debug("node %s does not let %s go: %s", saved.node, saved.sid, error)


def hear_evictions(server: Server) -> None:
    """Let clients go that are on another node now."""

    async def hear(about: tuple[str, str]) -> bool:
        await _let_go(server, *about)
        return True

    server.node.bus.handlers[_ON_BUS] = hear


async def _let_go(server: Server, namespace: str, sid: str) -> None:
    router = server.routers.get(namespace)
    member = router.members.get(sid) if router is not None else None
    if member is None:
        return
    if member.recovery is not None:
        member.recovery.is_lost = True
    client = member.socket.client
    if member.socket.is_connected:
        member.socket.is_connected = False
        del client.sockets[namespace]
        await server.leave(member, "transport close")
    if not client.sockets:
        client.engine.lose("transport close")
