"""An asyncio event loop in virtual time: when nothing is ready, time jumps to the next timer."""

import asyncio
from typing import Any, Final, NoReturn

__all__ = ["VirtualLoop"]

_BEGIN_S: Final = 1000.0
_BUSY_TURNS: Final = 100_000
_LAST_TURNS: Final = 5


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs tasks and timers, without sockets, threads or signals: the same program does the same in each run.

        loop = VirtualLoop()
        loop.create_task(something())
        loop.run_for(3600)  # an hour, in no time

    Attributes:
        has_no_threads: the application's sync functions run on the loop.
        faults: exceptions of callbacks, and of tasks that are not awaited; asyncio's own loop logs them.
    """

    has_no_threads: Final = True

    def __init__(self) -> None:
        super().__init__()
        self.now_s = _BEGIN_S
        self.faults: list[BaseException | str] = []
        self._selector = _Jump(self)
        self.set_exception_handler(self._fault)

    def time(self) -> float:
        """Virtual seconds."""
        return self.now_s

    def run_for(self, seconds: float) -> None:
        self.call_at(self.now_s + seconds, self.stop)
        self.run_forever()

    def run_until_idle(self, *, within_s: float) -> None:
        """Let time pass until nothing is ready and no timer is set, ``within_s`` at most."""
        end = self.call_at(self.now_s + within_s, self.stop)
        self._selector.stops_when_idle = end
        self.run_forever()
        self._selector.stops_when_idle = None
        end.cancel()

    def discard(self) -> None:
        """Cancel all tasks and timers, and close."""
        for _ in range(_LAST_TURNS):  # what is cancelled may begin something else
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
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return [handle for handle in scheduled if not handle.cancelled()]

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:  # type: ignore[override]
        """Refuse: a thread would run in real time."""
        raise RuntimeError("there are no threads in virtual time")

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no sockets."""

    def _write_to_self(self) -> None:
        """Do nothing: there is only this thread."""

    def _fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(context.get("exception") or context["message"])


class _Jump:
    """The loop's selector: instead of waiting, it moves the time on."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._turns = 0
        self.stops_when_idle: asyncio.TimerHandle | None = None

    def select(self, timeout: float | None) -> list[Any]:
        """Called each turn: ``timeout`` is 0 when something is ready, ``None`` when nothing ever will be."""
        if timeout == 0:
            self._turns += 1
            if self._turns > _BUSY_TURNS:
                raise RuntimeError(f"{_BUSY_TURNS} turns, and time stands still: a loop that never waits")
            return []
        if timeout is None:
            raise RuntimeError("nothing is ready and no timer is set: this loop would wait for ever")
        scheduled = self._loop._scheduled  # type: ignore[attr-defined]
        last = self.stops_when_idle
        if last is not None and all(timer.cancelled() or timer is last for timer in scheduled):
            self._loop.stop()
            return []
        self._turns = 0
        self._loop.now_s = max(self._loop.now_s, scheduled[0].when())
        return []
