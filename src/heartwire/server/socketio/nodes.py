"""Requests for sessions of other nodes: no request has to come to the node that has its session.

A session's sid ends in the name of the node that it began at. A poll or a POST that comes to another node is
handed to that one, and answered from there. A WebSocket takes its session along: see `moving`.

In: requests, from `requests`; the same from other nodes, by the bus. Out: answers of sessions of this node,
and of others.
"""

import asyncio
import itertools
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol

from heartwire.dialects.socketio.engine_io import BAD_REQUEST, UNKNOWN_SID, EngineSettings, Fault, error_body
from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.engines.contract import shared_engine
from heartwire.errors import HeartwireError, Refused
from heartwire.hub.node import Node
from heartwire.server.socketio.connection import EngineConnection

__all__ = ["GONE", "Forwarded", "HeldPoll", "Sessions", "SessionsElsewhere"]

log = logging.getLogger("heartwire")

MAX_FORWARDED: Final = 5000
"""Requests of one node that are handed to others at a time; over that they are refused."""

MAX_MOVED: Final = 10_000
"""Sessions that went to another node, and that this one remembers: their polls are answered as those of a
session on a WebSocket are."""

LOOK_S: Final = 1
"""How often the owners of forwarded requests are asked whether they still have them."""

DEAD_S: Final = 5
"""An owner that does not answer for so long is gone."""

_NODE: Final = re.compile(r"[0-9a-f]{8}")

Answer = tuple[int, bytes]
"""HTTP status, and body."""

GONE: Final[Answer] = (400, error_body(UNKNOWN_SID))
MOVED: Final[Answer] = (400, error_body(BAD_REQUEST))


class Sessions(Protocol):
    """The server, as other nodes see it."""

    node: Node
    settings: EngineSettings
    sessions: dict[str, EngineConnection]


class HeldPoll:
    """A poll that waits for its answer."""

    __slots__ = ("answered",)

    def __init__(self) -> None:
        self.answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def answer(self, status: int, body: bytes) -> None:
        """See `Reply.answer`."""
        if not self.answered.done():
            self.answered.set_result((status, body))


class Forwarded:
    """A question about a session, to the node that has it.

    Attributes:
        answer: of that node; ``None``: it is gone, or refused.
    """

    def __init__(self, owner: str, number: int, sid: str) -> None:
        self.owner, self.number, self.sid = owner, number, sid
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def end(self, answer: Any = None) -> None:
        """Answer it. Idempotent."""
        if not self.answer.done():
            self.answer.set_result(answer)


Answering = Callable[..., Awaitable[Any]]
"""Answers a question, given the node that asks, the question's number, the sid, and what else there is."""


class SessionsElsewhere:
    """See the module.

    Promises: requests of one client are handled in the order they came, each once or, where a node or the
    store breaks off, answered 400 code 1, so that the client begins anew. An owner that dies is noticed
    as soon as the store gives it up, or when it has not answered for `DEAD_S`.
    """

    def __init__(self, server: Sessions) -> None:
        self._server = server
        self._node = server.node
        self._bus = server.node.bus
        self.here = server.node.connections.node_id
        self._shared = shared_engine(server.node.engine)
        self._numbers = itertools.count(1)
        self._forwarded: dict[str, dict[int, Forwarded]] = {}  # by owner
        self._count = 0
        self._under_way: set[tuple[str, int]] = set()
        self._held: dict[tuple[str, int], tuple[EngineSession, HeldPoll]] = {}
        self._moved: dict[str, None] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._looked_at: set[str] = set()
        self.answer("socketio-poll", self._poll)
        self.answer("socketio-post", self._post)
        self._bus.handlers["socketio-abort"] = self._abort
        self._bus.handlers["socketio-look"] = self._look
        self._bus.handlers["socketio-release"] = self._let_go

    # -- whose it is -----------------------------------------------------------------------------------------

    def owner_of(self, sid: str) -> str:
        """The node that has a session that is not here. Raises `Fault`."""
        if sid in self._moved:
            raise Fault(BAD_REQUEST)
        owner = sid.rpartition(".")[2]
        if self._shared is None or owner == self.here or not _NODE.fullmatch(owner):
            raise Fault(UNKNOWN_SID)
        return owner

    def moved(self, sid: str) -> None:
        """A session of this node is another's from now on."""
        self._moved[sid] = None
        if len(self._moved) > MAX_MOVED:
            del self._moved[next(iter(self._moved))]

    # -- at the node that the request came to ----------------------------------------------------------------

    def ask(self, owner: str, sid: str, kind: str, *more: Any) -> Forwarded:
        """Ask the owner of a session. Raises `Refused` where too many questions are under way."""
        if self._count >= MAX_FORWARDED:
            raise Refused("too_many_requests", f"{MAX_FORWARDED} requests wait for other nodes", after_s=1)
        forwarded = Forwarded(owner, next(self._numbers), sid)
        self._forwarded.setdefault(owner, {})[forwarded.number] = forwarded
        self._count += 1
        asking = self.run(self._ask(forwarded, kind, (self.here, forwarded.number, sid, *more)))

        def done(_: object) -> None:
            asking.cancel()
            self._count -= 1
            mine = self._forwarded[owner]
            del mine[forwarded.number]
            if not mine:
                del self._forwarded[owner]

        forwarded.answer.add_done_callback(done)
        if self._looking is None:
            self._looking = self.run(self._watch_owners())
        return forwarded

    def abort(self, forwarded: Forwarded) -> None:
        """The client of a forwarded poll is gone. Without effect once that is answered."""
        if not forwarded.answer.done():
            forwarded.end()
            self.tell(forwarded.owner, "socketio-abort", (self.here, forwarded.number, forwarded.sid))

    def tell(self, node: str, kind: str, about: Any) -> None:
        """Ask a node for something that it does or does not: the answer is not needed."""
        self.run(self.told(node, kind, about))

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in a task of its own."""
        task = self._node.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a session of another node was not served", exc_info=error)

    async def told(self, node: str, kind: str, about: Any) -> None:
        """Ask a node as `tell` does, and wait until it has done it, or is found gone."""
        try:
            await self._bus.ask(node, kind, about, within_s=DEAD_S)
        except HeartwireError:
            return  # it is gone, and so is what this was about

    async def _ask(self, forwarded: Forwarded, kind: str, about: Any) -> None:
        """A poll is answered with a ping at the latest; so what takes longer is lost."""
        within_s = self._server.settings.ping_interval_s + self._server.settings.ping_timeout_s + DEAD_S
        try:
            forwarded.end(await self._bus.ask(forwarded.owner, kind, about, within_s=within_s))
        except HeartwireError:
            forwarded.end()

    async def _watch_owners(self) -> None:
        """Runs while requests are forwarded: their owners may die, and mail may be lost with the store."""
        while self._forwarded:
            await asyncio.sleep(LOOK_S)
            if self._node.draining:
                self._release()
            living = await self._living()
            for owner, mine in list(self._forwarded.items()):
                asked = list(mine.values())
                if living is not None and owner not in living:
                    for one in asked:
                        one.end()
                elif owner not in self._looked_at:
                    self._looked_at.add(owner)
                    self.run(self._look_at(owner, asked))
        self._looking = None

    def _release(self) -> None:
        """This node stops: clients whose polls it holds for others poll again, and come to another one."""
        for owner, mine in self._forwarded.items():
            for number in mine:
                self.tell(owner, "socketio-release", (self.here, number))

    async def _living(self) -> list[str] | None:
        """The nodes that are there, as far as the store knows."""
        if self._shared is None:
            return None
        try:
            return await self._shared.nodes()
        except HeartwireError:
            return None

    async def _look_at(self, owner: str, mine: list[Forwarded]) -> None:
        about = (self.here, [one.number for one in mine])
        try:
            lost = set(await self._bus.ask(owner, "socketio-look", about, within_s=DEAD_S))
        except HeartwireError:
            lost = {one.number for one in mine}
        self._looked_at.discard(owner)
        for one in mine:
            if one.number in lost:
                one.end()

    # -- at the node that has the session --------------------------------------------------------------------

    def answer(self, kind: str, answering: Answering) -> None:
        """Answer what other nodes `ask` about sessions of this one."""

        async def answer(about: Sequence[Any]) -> Any:
            asker, number, *more = about
            self._under_way.add((asker, number))
            try:
                return await answering(asker, number, *more)
            finally:
                self._under_way.discard((asker, number))

        self._bus.handlers[kind] = answer

    async def _poll(self, asker: str, number: int, sid: str) -> Answer:
        connection = self._server.sessions.get(sid)
        if connection is None:
            return MOVED if sid in self._moved else GONE
        held = HeldPoll()
        self._held[asker, number] = (connection.engine, held)
        try:
            connection.engine.poll(held)
            return await held.answered
        finally:
            del self._held[asker, number]

    async def _post(self, asker: str, number: int, sid: str, body: bytes) -> Answer:
        connection = self._server.sessions.get(sid)
        if connection is None:
            return MOVED if sid in self._moved else GONE
        session = connection.engine
        if not session.begin_post():
            return 400, error_body(BAD_REQUEST, "another POST of this session is being read")
        try:
            return await session.post(body)
        finally:
            session.end_post()

    async def _abort(self, about: tuple[str, int, str]) -> None:
        asker, number, sid = about
        session, held = self._held.get((asker, number), (None, None))
        connection = self._server.sessions.get(sid)
        if session is not None and held is not None:
            session.poll_lost(held)
            held.answer(*GONE)
        elif connection is not None:  # its answer was on the way, and came to nobody
            connection.engine.lose("transport close")

    async def _let_go(self, about: tuple[str, int]) -> None:
        session, held = self._held.get((about[0], about[1]), (None, None))
        if session is not None and held is not None:
            session.release(held)

    async def _look(self, about: tuple[str, Iterable[int]]) -> list[int]:
        """Which of a node's questions are not under way. Mail comes in order, so they were lost, or are
        answered."""
        asker, numbers = about
        return [number for number in numbers if (asker, number) not in self._under_way]
