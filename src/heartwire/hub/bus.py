"""Questions to other nodes, and their answers.

In: questions, from the HTTP API and from emulation; mail, from the engine's feed. Out: mail, by
`SharedEngine.send`; answers. A node on an engine that is not shared has nobody to ask.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import msgspec

from heartwire.engines.contract import SharedEngine
from heartwire.errors import HeartwireError, Refused

__all__ = ["ANSWER_S", "Answers", "Bus", "Handler"]

log = logging.getLogger("heartwire")

ANSWER_S: Final = 1
"""How long all other nodes have to answer."""

_MAX_ASKED: Final = 10_000
_NODES_S: Final = 2
_ANSWER: Final = ""

Handler = Callable[[Any], Awaitable[Any]]
"""Answers one kind of question: values of msgpack, as the question. What it raises is the answer too."""


class Answers(NamedTuple):
    """What the other nodes answered: ``values`` by node, and the nodes that are ``missing``."""

    values: dict[str, Any]
    missing: list[str]


class Bus:
    """See the module. It belongs to one event loop.

    Args:
        shared: None: there are no other nodes.
        now: monotonic seconds.

    Attributes:
        handlers: who answers which kind of question; the same on all nodes.

    Promises: what one node asks another comes there in the order it was asked, each once or not at all. At
    most 10,000 answers are waited for; over that a question raises `Refused` (``too_many_requests``).
    """

    def __init__(self, shared: SharedEngine | None, now: Callable[[], float]) -> None:
        self.handlers: dict[str, Handler] = {}
        self._shared = shared
        self._now = now
        self._numbers = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._nodes: list[str] = []
        self._nodes_at = float(-_NODES_S)

    async def ask_all(self, kind: str, about: Any) -> Answers:
        """Ask all other nodes, which have `ANSWER_S`.

        Raises what the first of them raised, and `EngineUnavailable` where the store does not know them.
        """
        if self._shared is None:
            return Answers({}, [])
        nodes = set(await self._shared.nodes()) - {self._shared.node}
        return await self._ask(nodes, kind, about, ANSWER_S) if nodes else Answers({}, [])

    async def ask(self, node: str, kind: str, about: Any, *, within_s: float) -> Any:
        """Ask one node. Raises `Refused` (``not_found``) where it is not there or does not answer."""
        if self._shared is not None and node != self._shared.node and await self._knows(node):
            answers = await self._ask({node}, kind, about, within_s)
            if node in answers.values:
                return answers.values[node]
        raise Refused("not_found", f"node {node[:64]!r} is not there: come back with a new connection")

    def heard(self, body: bytes) -> None:
        """Take what another node has sent."""
        try:
            kind, number, node, about = msgspec.msgpack.decode(body)
        except (ValueError, TypeError):
            log.error("mail of another node is not understood: do all nodes have the same version?")
            return
        if kind == _ANSWER:
            asked = self._asked.get(number)
            if asked is not None:
                asked.take(node, *about)
            return
        task = asyncio.ensure_future(self._answer(kind, number, node, about))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- inside ----------------------------------------------------------------------------------------------

    async def _knows(self, node: str) -> bool:
        """Whether a node is there; asked anew where it is not known, or after a while."""
        assert self._shared is not None
        if node not in self._nodes or self._now() - self._nodes_at > _NODES_S:
            self._nodes, self._nodes_at = await self._shared.nodes(), self._now()
        return node in self._nodes

    async def _ask(self, nodes: set[str], kind: str, about: Any, within_s: float) -> Answers:
        assert self._shared is not None
        if len(self._asked) >= _MAX_ASKED:
            raise Refused("too_many_requests", f"{_MAX_ASKED} questions wait for other nodes", after_s=1)
        number = next(self._numbers)
        asked = self._asked[number] = _Asked(nodes)
        try:
            body = msgspec.msgpack.encode((kind, number, self._shared.node, about))
            self._shared.send(next(iter(nodes)) if len(nodes) == 1 else None, body)
            await asyncio.wait([asked.done], timeout=within_s)
        finally:
            del self._asked[number]
        if asked.error is not None:
            raise asked.error
        return Answers(asked.values, sorted(nodes - asked.values.keys()))

    async def _answer(self, kind: str, number: int, node: str, about: Any) -> None:
        assert self._shared is not None
        answer: tuple[bool, Any]
        try:
            handler = self.handlers.get(kind)
            if handler is None:
                raise Refused("not_found", f"this node does not know {kind[:64]!r}: it is of another version")
            answer = (True, await handler(about))
        except HeartwireError as error:
            answer = (False, (error.code.name, str(error)))
        except Exception:
            log.exception("%s of another node failed", kind)
            answer = (False, ("internal", "internal server error on another node"))
        body = msgspec.msgpack.encode((_ANSWER, number, self._shared.node, answer))
        self._shared.send(node, body)


class _Asked:
    """A question that waits for the answers of nodes."""

    def __init__(self, nodes: set[str]) -> None:
        self.values: dict[str, Any] = {}
        self.error: HeartwireError | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._nodes = nodes

    def take(self, node: str, is_good: bool, value: Any) -> None:
        if is_good:
            self.values[node] = value
        elif self.error is None:
            self.error = Refused(*value)
        if (self.error is not None or self._nodes <= self.values.keys()) and not self.done.done():
            self.done.set_result(None)
