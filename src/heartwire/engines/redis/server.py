"""The command connection to one server, and the calls that wait for it.

In: calls. Out: their answers; whether the connection is there. What a connection leaves open when it breaks
goes again on the next one, first and in order; an append says then that it may have been applied, and the
script looks for it.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from heartwire.engines.calls import Call, Calls, Room
from heartwire.engines.redis.connection import Lasting
from heartwire.engines.redis.greeting import Life, info_of
from heartwire.engines.redis.pipe import Address, Pipe, RedisError
from heartwire.engines.redis.scripts import APPEND, SCRIPTS, Script
from heartwire.errors import EngineUnavailable

__all__ = ["Opener", "Server"]

log = logging.getLogger("heartwire")

_AGAIN: Final = ("READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED", "BUSY ")
"""Nothing was done, and another connection or a moment may help."""
_ASTRAY: Final = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
"""The same, and another server may. ``ASK`` is no help: a script has several keys, which move one by one."""
_DOUBTFUL_ARG: Final = 5  # of `append`

Finish = Callable[[Call, Any], None]
"""Gives a call its answer, from the server's."""


class Opener(Protocol):
    """Opens a command connection to the server that is the primary now.

    Raises `EngineUnavailable` and `ConfigError`.
    """

    async def __call__(self) -> tuple[Pipe, Address, Life]: ...


class Server(Lasting):
    """See the module.

    Args:
        guard: the life of a store as scripts compare it: "" where nothing is compared.
        up, lost: called when the connection is there and when it is gone, with the reason.
        astray: called when all is answered, and some calls belong to another server of a cluster. Nothing is
            sent until `release`.

    Attributes:
        address, life: of the last connection.
    """

    def __init__(
        self,
        name: str,
        opener: Opener,
        room: Room,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
        guard: Callable[[Life], str],
        is_restart_trusted: bool,
        up: Callable[["Server"], None],
        lost: Callable[["Server", str], None],
        astray: Callable[["Server", str], None] | None = None,
    ) -> None:
        super().__init__(name, chance)
        self.calls = Calls(room)
        self.address = Address("", 0)
        self.life = Life("", "")
        self._opener, self._clock = opener, clock
        self._guard, self._compared, self._trust = guard, "", "1" if is_restart_trusted else "0"
        self._tell_up, self._tell_lost, self._astray = up, lost, astray
        self._is_held = False
        self._again: list[Call] = []
        self._again_why = ""
        self._epochs, self._epoch = "", 0
        self._client_id = 0
        self._drained: asyncio.Future[None] | None = None

    # -- life ------------------------------------------------------------------------------------------------

    async def _open(self) -> Pipe:
        was = self.life
        pipe, self.address, self.life = await self._opener()
        try:
            await self._end_last(pipe, is_same=was.run_id == self.life.run_id)
            await self._load_scripts(pipe)
        except BaseException:
            pipe.abort("its scripts are not loaded")
            raise
        pipe.hear = self._hear
        self._epochs, self._epoch = secrets.token_urlsafe(5), 0
        return pipe

    async def _end_last(self, pipe: Pipe, *, is_same: bool) -> None:
        """Have the server drop what it has not read of the last connection: it may come later than the same
        calls here."""
        try:
            if is_same and self._client_id:
                await pipe.ask("CLIENT", "KILL", "ID", self._client_id)
            self._client_id = await pipe.ask("CLIENT", "ID")
        except RedisError as error:  # no such client, or none may be killed
            log.debug("%s: %s", self.address, error)
            self._client_id = await pipe.ask("CLIENT", "ID")

    async def _load_scripts(self, pipe: Pipe) -> None:
        try:
            await asyncio.gather(*(pipe.ask("SCRIPT", "LOAD", script.text) for script in SCRIPTS))
        except RedisError as error:
            raise EngineUnavailable(f"{self.address}: {error}") from None

    def _opened(self, pipe: Pipe) -> None:
        self._is_held, self._compared = False, self._guard(self.life)
        self._tell_up(self)
        self._send()

    def _ended(self, why: str) -> None:
        self.calls.broken()
        self.calls.again(self._again)  # they are older, and certainly not applied
        self._again, self._again_why = [], ""
        self._have_drained()
        self._tell_lost(self, why)

    # -- calls -----------------------------------------------------------------------------------------------

    def call(self, call: Call) -> None:
        """Send a call, now or when the server is there. `Room.check` has been made."""
        self.calls.add(call, self._clock())
        if self._pipe is not None and not self._is_held:
            self._send()

    def _send(self) -> None:
        pipe, now = self._pipe, self._clock()
        if pipe is None or self._is_held:
            return
        life = self._compared
        while (call := self.calls.next(now)) is not None:
            script, (keys, args, *_) = call.kind, call.parts
            if not isinstance(script, Script):
                pipe.write(*args)
            elif script.has_life:
                if script is APPEND and call.is_doubtful:
                    args = (*args[: _DOUBTFUL_ARG - 3], "1", *args[_DOUBTFUL_ARG - 2 :])
                pipe.write(
                    "EVALSHA", script.sha, len(keys), *keys, life, self._trust, self._new_epoch(), *args
                )
            else:
                pipe.write("EVALSHA", script.sha, len(keys), *keys, *args)

    def _new_epoch(self) -> str:
        """An epoch that no stream has had."""
        self._epoch += 1
        return f"{self._epochs}{self._epoch:x}"

    def _hear(self, reply: Any) -> None:
        calls = self.calls
        call = calls.answered()
        if not isinstance(reply, RedisError):
            finish: Finish | None = call.parts[2]
            if finish is None:
                call.succeed(reply)
            else:
                finish(call, reply)
        else:
            self._refused(call, str(reply))
        if self._is_held and not calls.sent:
            self._go_on()

    def _refused(self, call: Call, error: str) -> None:
        is_again = error.startswith(("NOSCRIPT", *_AGAIN)) or "-READONLY" in error  # 6.2 has it inside
        if is_again or (self._astray is not None and error.startswith(_ASTRAY)):
            # Nothing is sent until all that is under way is answered, so that the order stays.
            self._again.append(call)
            self._is_held, self._again_why = True, error
        else:
            self.calls.fail(call, EngineUnavailable(f"{self.address}: {error}"))

    def _go_on(self) -> None:
        """All is answered: do something about what the server refused, and send it again."""
        why, self._again_why = self._again_why, ""
        self.calls.again(self._again)
        self._again = []
        self._have_drained()
        if not why:
            return
        pipe = self._pipe
        assert pipe is not None
        if self._astray is not None and why.startswith(_ASTRAY):
            self._astray(self, why)
            return
        if not why.startswith("NOSCRIPT"):
            pipe.abort(why)
            return
        loading = asyncio.ensure_future(self._load_scripts(pipe))
        loading.add_done_callback(partial(self._loaded, pipe))

    @property
    def takes_calls(self) -> bool:
        return self._pipe is not None and not self._is_held

    async def hold(self) -> None:
        """Send nothing more until `release`, and wait until all that was sent is answered or broken off."""
        self._is_held = True
        if self._pipe is not None and self.calls.sent:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def _have_drained(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def release(self) -> None:
        """Go on after `hold`, or after ``astray``."""
        self._is_held = False
        self._send()

    def _loaded(self, pipe: Pipe, loading: "asyncio.Future[None]") -> None:
        if loading.exception() is not None:
            pipe.abort("its scripts are not loaded")
        elif self._pipe is pipe:
            self._is_held = False
            self._send()

    # -- the server's life -----------------------------------------------------------------------------------

    def look(self) -> None:
        """See whether it is what it was: a primary, with the same history. Else the connection ends."""
        if self.takes_calls:
            self.call(Call(None, ((), ("INFO", "replication"), self._looked, -1), None))

    def _looked(self, call: Call, reply: bytes) -> None:
        info = info_of(reply)
        if info.get("role") != "master":
            self.abort("it is not the primary any more")
        elif self.life.replid and info.get("master_replid") != self.life.replid:
            self.abort("it has another history")
