"""Pages of a channel's history, forwards and backwards, for those who ask by offset and not by following."""

from typing import TYPE_CHECKING, Final, NamedTuple

from heartwire.core.waiting import settled
from heartwire.errors import Refused
from heartwire.types import NOW, Channel, Position, Publication

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub

__all__ = ["History", "read_history"]

PAGE_BYTES: Final = 16 * 1024 * 1024
"""A page ends once it has this much, so that nobody makes the server hold a whole stream; the reader asks
again for the rest."""

_BACK_ITEMS: Final = 256


class History(NamedTuple):
    """Publications in the order they were asked for, and where the stream stands."""

    publications: list[Publication]
    head: Position


async def read_history(
    hub: "Hub",
    channel: Channel,
    *,
    limit: int,
    since_offset: int | None = None,
    since_epoch: str = "",
    reverse: bool = False,
) -> History:
    """Read a page.

    Args:
        limit: most publications; 0: none, negative: no limit but `PAGE_BYTES`.
        since_offset: those after it, or before it where ``reverse``; ``None``: from the oldest that is kept,
            or from the newest.
        since_epoch: the epoch that the offset is of; "": whichever it is now.
    Raises:
        Refused: ``unrecoverable_position`` (the stream has another epoch), ``bad_request`` (backwards from
        the beginning).
    """
    head = (await settled(hub.read(channel, NOW, limit=0, max_bytes=1))).head
    if since_epoch and since_epoch != head.epoch:
        raise Refused(
            "unrecoverable_position", f"{channel!r} is in epoch {head.epoch!r}, not {since_epoch[:32]!r}"
        )
    if reverse and since_offset == 0:
        raise Refused("bad_request", "nothing is before offset 0")
    if limit == 0:
        return History([], head)
    most = head.offset if limit < 0 else limit
    if reverse:
        newest = head.offset if since_offset is None else min(since_offset - 1, head.offset)
        return History(await _back(hub, channel, head.epoch, newest, most), head)
    after = since_offset or 0
    if after >= head.offset:
        return History([], head)
    result = await settled(hub.read(channel, Position(head.epoch, after), limit=most, max_bytes=PAGE_BYTES))
    return History(result.publications, head)


async def _back(hub: "Hub", channel: Channel, epoch: str, newest: int, most: int) -> list[Publication]:
    """At most ``most`` publications up to offset ``newest``, newest first. Offsets have no holes, so they
    tell where to read."""
    found: list[Publication] = []
    size = 0
    while newest > 0 and len(found) < most and size < PAGE_BYTES:
        after = max(0, newest - min(_BACK_ITEMS, most - len(found)))
        # All of it: a limit by bytes would cut the newest off, which are the ones to begin with.
        result = await settled(
            hub.read(channel, Position(epoch, after), limit=newest - after, max_bytes=2**62)
        )
        page = [publication for publication in result.publications if publication.offset <= newest]
        if not page or page[0].epoch != epoch:
            break
        found += reversed(page)
        size += sum(len(publication.data) for publication in page)
        newest = after if page[0].offset == after + 1 else 0  # else nothing older is kept
    return found
