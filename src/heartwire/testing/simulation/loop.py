"""An asyncio event loop whose time is virtual: where nothing is ready, it is at once as late as the next
timer says."""

import asyncio
from typing import Any, Final, NoReturn

__all__ = ["VirtualLoop"]

_BEGIN_S: Final = 1000.0
_BUSY_TURNS: Final = 100_000


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs tasks and timers, and has no sockets, threads or signals: so the same program does the same in
    each run.

        loop = VirtualLoop()
        loop.create_task(something())
        loop.run_for(3600)  # an hour, in no time

    Attributes:
        now_s: what `time` says.
        faults: what would have been logged: exceptions of callbacks, and of tasks that nobody awaits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = _BEGIN_S
        self.faults: list[BaseException | str] = []
        self._selector = _Jump(self)
        self.set_exception_handler(self._fault)

    def time(self) -> float:
        """Seconds."""
        return self.now_s

    def run_for(self, seconds: float) -> None:
        """Let so much time pass."""
        self.call_at(self.now_s + seconds, self.stop)
        self.run_forever()

    def run_until_idle(self, *, within_s: float) -> None:
        """Let time pass until nothing is ready and no timer is set, or until so much has passed."""
        end = self.call_at(self.now_s + within_s, self.stop)
        self._selector.stops_when_idle = end
        self.run_forever()
        self._selector.stops_when_idle = None
        end.cancel()

    def discard(self) -> None:
        """Cancel what is left, and close."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        for timer in self.timers:
            timer.cancel()
        self.call_soon(self.stop)
        self.run_forever()
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()

    @property
    def timers(self) -> list[asyncio.TimerHandle]:
        """Those that are set."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return [handle for handle in scheduled if not handle.cancelled()]

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:  # type: ignore[override]
        """Threads do not know of virtual time."""
        raise RuntimeError("there are no threads in virtual time")

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody has to be woken: there is only this thread."""

    def _fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(context.get("exception") or context["message"])


class _Jump:
    """What the loop takes for its selector: instead of waiting, it changes the time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._turns = 0
        self.stops_when_idle: asyncio.TimerHandle | None = None

    def select(self, timeout: float | None) -> list[Any]:
        """Called in each turn: ``timeout`` is 0 where something is ready, ``None`` where nothing ever will
        be."""
        if timeout == 0:
            self._turns += 1
            if self._turns > _BUSY_TURNS:
                raise RuntimeError(
                    f"{_BUSY_TURNS} turns, and time stands still: something goes round in circles"
                )
            return []
        if timeout is None:
            raise RuntimeError("nothing is ready and no timer is set: this loop would wait for ever")
        scheduled = self._loop._scheduled  # type: ignore[attr-defined]
        if self.stops_when_idle is not None and all(
            one.cancelled() or one is self.stops_when_idle for one in scheduled
        ):
            self._loop.stop()
            return []
        self._turns = 0
        self._loop.now_s = max(self._loop.now_s, scheduled[0].when())
        return []
