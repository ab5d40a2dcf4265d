"""What retention has ended is deleted: `Sweeper`, in statements that are short."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from heartwire.engines.contract import Retention
from heartwire.engines.postgres.values import ms
from heartwire.engines.wire import MOST
from heartwire.types import Channel

__all__ = ["STREAMS_AFTER", "Sweeper"]

STREAMS_AFTER: Final = "SELECT id, channel FROM heartwire.streams_after($1, $2)"

_SWEPT: Final = 250
"""So many streams are looked at in one statement."""
_SLICES: Final = 400

Ask = Callable[..., Awaitable[Any]]


class Sweeper:
    """Goes through the streams, and remembers how far it came."""

    def __init__(self) -> None:
        self._after = 0

    async def sweep(self, ask: Ask, retention: Callable[[Channel], Retention], time_ms: int | None) -> None:
        """Sweep records, and the next 100,000 streams, unless another node does. ``ask`` runs a statement."""
        if not (await ask("SELECT heartwire.sweep_old($1)", time_ms))[0][0]:
            return
        for _ in range(_SLICES):
            if not (await ask("SELECT heartwire.sweep_records($1)", time_ms))[0][0]:
                break
        for _ in range(_SLICES):
            rows = await ask(STREAMS_AFTER, self._after, _SWEPT)
            keeps = {id: retention(channel) for id, channel in rows}
            ids = list(keeps)
            while ids:
                ids = await _trim(ask, {id: keeps[id] for id in ids}, time_ms)
            self._after = rows[-1][0] if len(rows) == _SWEPT else 0
            if not self._after:
                return


async def _trim(ask: Ask, keeps: dict[int, Retention], time_ms: int | None) -> list[int]:
    """Trim streams. Returns those that have more to trim."""
    kept = keeps.values()
    rows = await ask(
        "SELECT heartwire.sweep_streams($1, $2, $3, $4, $5)",
        list(keeps),
        [min(keep.history_size, MOST) for keep in kept],
        [ms(keep.history_ttl_s) for keep in kept],
        [keep.is_followed for keep in kept],
        time_ms,
    )
    return rows[0][0]  # type: ignore[no-any-return]
