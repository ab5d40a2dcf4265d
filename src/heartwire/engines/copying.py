"""Copying the streams of one store into another, with their records, epochs and offsets: readers go on there
as if nothing had happened. Keys and presence stay behind: they last for minutes.

In: two engines. Out: how far it is.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from heartwire.core.waiting import settled
from heartwire.engines.contract import Engine, Feed, Portable, Retention
from heartwire.errors import ConfigError
from heartwire.types import EARLIEST, Channel, Position, Start

__all__ = ["Copied", "copy_streams"]

_ALL: Final = Retention(2**62, 1e9)
_PAGE_ITEMS: Final = 1000
_PAGE_BYTES: Final = 4 * 1024 * 1024


class Copied(NamedTuple):
    """How many of each."""

    streams: int
    publications: int
    bytes: int


async def copy_streams(
    source: Engine, target: Engine, *, progress: Callable[[Copied], None] = lambda copied: None
) -> Copied:
    """Copy all streams. Both engines are started and stopped here; nobody else may use them.

    Args:
        progress: called after each page.
    Raises:
        ConfigError: one of the engines cannot, or ``target`` has streams already.
        EngineError: a store cannot be opened, or fails; then begin anew with an empty target.
    """
    readable, writable = _portable(source, "FROM"), _portable(target, "TO")
    copied = Copied(0, 0, 0)
    await readable.start(Feed())
    try:
        await writable.start(Feed())
        try:
            async for channel, _ in writable.streams():
                raise ConfigError("TO", channel, "the target has streams already: take an empty store")
            async for channel, head in readable.streams():
                copied = await _copy(readable, writable, channel, head, copied, progress)
        finally:
            await writable.stop()
    finally:
        await readable.stop()
    return copied


async def _copy(
    source: Portable,
    target: Portable,
    channel: Channel,
    head: Position,
    copied: Copied,
    progress: Callable[[Copied], None],
) -> Copied:
    start: Start = EARLIEST
    found = await settled(source.record(channel))
    record = found if found.revision else None
    while True:
        answer = source.read(channel, start, _ALL, limit=_PAGE_ITEMS, max_bytes=_PAGE_BYTES)
        page = (await settled(answer)).publications
        await target.restore(channel, head, page, record)
        record = None  # it is there
        count, size = len(page), sum(len(one.data) for one in page)
        copied = Copied(copied.streams, copied.publications + count, copied.bytes + size)
        if not page or page[-1].offset >= head.offset:
            copied = copied._replace(streams=copied.streams + 1)
            progress(copied)
            return copied
        progress(copied)
        start = page[-1].position


def _portable(engine: Engine, which: str) -> Portable:
    if not hasattr(engine, "restore"):
        fix = "streams of this engine cannot be copied: name the store itself, such as sqlite:///FILE"
        raise ConfigError(which, type(engine).__name__, fix)
    return engine  # type: ignore[return-value]
