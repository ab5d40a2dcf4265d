"""Versions of publications: of a state that its publisher numbers, an older one must not replace a newer."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from heartwire.types import Channel, Position

__all__ = ["Versions"]

_FORGET_AFTER_S: Final = 30 * 86400
"""A channel without a version for as long begins anew, so that old channels take no memory."""


class Versions:
    """The newest version of each channel, in this process's memory; it begins anew with the process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._newest: OrderedDict[Channel, tuple[str, int, float]] = OrderedDict()  # by age

    async def publish(
        self, channel: Channel, version: int, epoch: str, publish: Callable[[], Awaitable[Position]]
    ) -> Position | None:
        """Publish, unless the channel has this version of the epoch, or a newer one: ``None``.

        What has not been stored does not count, so that it can be published again.
        """
        known = self._newest.get(channel)
        if known is not None and known[0] == epoch and known[1] >= version:
            return None
        now = self._clock()
        mine = self._newest[channel] = epoch, version, now
        self._newest.move_to_end(channel)
        while next(iter(self._newest.values()))[2] < now - _FORGET_AFTER_S:
            self._newest.popitem(last=False)
        try:
            return await publish()
        except BaseException:
            if self._newest.get(channel) is mine:
                del self._newest[channel]
                if known is not None:
                    self._newest[channel] = known
                    self._newest.move_to_end(channel, last=False)
            raise
