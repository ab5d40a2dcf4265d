"""What a node watches, how far it was told of each channel, and whether its feed still speaks.

In: watches, what the feed brings, and the time. Out: what is handed on, what waits, whose head to ask for.
Pure: `heartwire.engines.shared` acts on it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

from heartwire.types import Channel, Position, Publication

__all__ = ["HEADS", "FeedPulse", "Watch", "Watches", "went_back"]

HEADS: Final = 500
"""So many heads are asked for in one call."""


class Watch:
    """One watched channel.

    Attributes:
        epoch, offset: of the last publication told; ("", 0): none yet.
        is_confirmed: the store has said that it tells of the channel, on the feed's present connection.
        is_quiet: nothing was told since the last look of `Watches.quiet`.
        waiting: to be called once it is confirmed, or the feed is lost.
        answers: of this node's own appends, that wait until their publication is told: offset, release.
    """

    __slots__ = ("answers", "channel", "epoch", "is_confirmed", "is_quiet", "offset", "waiting")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.epoch, self.offset = "", 0
        self.is_confirmed, self.is_quiet = False, False
        self.waiting: list[Callable[[], None]] | None = None
        self.answers: list[tuple[int, Callable[[], None]]] | None = None

    @property
    def told(self) -> Position:
        return Position(self.epoch, self.offset)

    def has_told(self, position: Position) -> bool:
        """Whether a publication was told, or a later one."""
        return self.epoch == position.epoch and self.offset >= position.offset

    def release(self) -> None:
        """Call what waits for its confirmation."""
        waiting, self.waiting = self.waiting, None
        for call in waiting or ():
            call()


class Watches:
    """The watched channels of a node.

    A channel is confirmed by connection: what was confirmed on another connection of the feed says nothing.
    """

    def __init__(self) -> None:
        self._watches: dict[Channel, Watch] = {}
        self._suspects: dict[Channel, None] = {}
        self._round: Iterator[Channel] = iter(())
        self._credit = 0.0  # how many channels of the round are due
        self.is_open = False
        """Whether the feed is connected, so that a confirmation can be waited for."""
        self.is_open_for: Callable[[Channel], bool] = lambda channel: self.is_open
        """The same of one channel, where there are several feeds."""

    def __len__(self) -> int:
        return len(self._watches)

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._watches

    def get(self, channel: Channel) -> Watch | None:
        return self._watches.get(channel)

    def channels(self) -> list[Channel]:
        return list(self._watches)

    def add(self, channel: Channel) -> bool:
        """Watch a channel. False: it was watched already."""
        if channel in self._watches:
            return False
        self._watches[channel] = Watch(channel)
        return True

    def remove(self, channel: Channel) -> bool:
        """Watch it no more; what waits for it is called. False: it was not watched."""
        watch = self._watches.pop(channel, None)
        if watch is None:
            return False
        self._suspects.pop(channel, None)
        watch.release()
        _answer(watch, 2**63)
        return True

    # -- the feed's connection -------------------------------------------------------------------------------

    def opened(self) -> None:
        """The feed is connected, and its channels have been named to the store."""
        self.is_open = True

    def confirm(self, channel: Channel) -> None:
        """The store tells of a channel from here on."""
        watch = self._watches.get(channel)
        if watch is not None and not watch.is_confirmed:
            watch.is_confirmed = True
            watch.release()

    def lost(self, is_of: Callable[[Channel], bool] = lambda channel: True) -> None:
        """The feed's connection has ended, of one or all. What waits for it is called: what it missed will be
        found."""
        self.is_open = False
        for watch in list(self._watches.values()):
            if not is_of(watch.channel):
                continue
            watch.is_confirmed = False
            watch.release()
            _answer(watch, 2**63)

    def when_confirmed(self, channel: Channel, call: Callable[[], None]) -> None:
        """Call at once, or when the store has confirmed the watch of a channel, or the feed is lost."""
        watch = self._watches.get(channel)
        if watch is None or watch.is_confirmed or not self.is_open_for(channel):
            call()
        elif watch.waiting is None:
            watch.waiting = [call]
        else:
            watch.waiting.append(call)

    # -- what is told ----------------------------------------------------------------------------------------

    def takes(self, publication: Publication) -> bool:
        """Whether to hand a publication on: its channel is watched, and it is news. To be followed by `told`.

        One that is no news makes its channel suspect: its stream may have gone back.
        """
        watch = self._watches.get(publication.channel)
        if watch is None:
            return False
        if publication.offset <= watch.offset and publication.epoch == watch.epoch:
            self._suspects[publication.channel] = None
            return False
        watch.epoch, watch.offset, watch.is_quiet = publication.epoch, publication.offset, False
        return True

    def told(self, channel: Channel) -> None:
        """A publication has been handed on: answers that waited for it are given."""
        watch = self._watches.get(channel)
        if watch is not None and watch.answers is not None:
            _answer(watch, watch.offset)

    def when_told(self, channel: Channel, position: Position, call: Callable[[], None]) -> bool:
        """Call once a publication of this node is told. False: nothing is to be waited for."""
        watch = self._watches.get(channel)
        if watch is None or not watch.is_confirmed or watch.has_told(position):
            return False
        if watch.answers is None:
            watch.answers = []
        watch.answers.append((position.offset, call))
        return True

    # -- heads -----------------------------------------------------------------------------------------------

    def quiet(self, share: float) -> list[Channel]:
        """The next ``share`` (at most 1) of the channels, those without news since they were last here.

        Suspect channels are there whenever it is called.
        """
        found = list(self._suspects)
        self._suspects.clear()
        self._credit = min(self._credit + len(self._watches) * share, len(self._watches))
        while self._credit >= 1:
            self._credit -= 1
            channel = next(self._round, None)
            if channel is None:
                self._round = iter(list(self._watches))
                channel = next(self._round, None)
            watch = None if channel is None else self._watches.get(channel)
            if channel is None or watch is None:
                continue
            if watch.is_quiet:
                found.append(channel)
            watch.is_quiet = True
        return found

    def positions(self, channels: Sequence[Channel]) -> list[Position]:
        """How far each was told. What `went_back` compares with: taken when the heads are asked for."""
        none = Position("", 0)
        return [none if (watch := self._watches.get(one)) is None else watch.told for one in channels]


def went_back(told: Position, head: Position) -> bool:
    """Whether a stream's head is before what was told of it in the same epoch: the store has lost some."""
    return told.epoch == head.epoch and head.offset < told.offset


def _answer(watch: Watch, offset: int) -> None:
    """Give the answers that wait for publications up to an offset."""
    answers = watch.answers
    if answers is None:
        return
    watch.answers = [one for one in answers if one[0] > offset] or None
    for wanted, call in answers:
        if wanted <= offset:
            call()


class FeedPulse:
    """Whether a feed still speaks: after 5 s of silence it is probed, 5 s later it is given up.

    The probe is sent by the way of publications, and has to come back by the feed: what else the store
    answers proves nothing about it.
    """

    SILENT_S: Final = 5.0

    def __init__(self, now: float) -> None:
        self._heard_at = now
        self._probed_at: float | None = None

    def heard(self, now: float) -> None:
        self._heard_at, self._probed_at = now, None

    def due(self, now: float) -> Literal["probe", "close"] | None:
        """What is to be done now."""
        if self._probed_at is not None:
            return "close" if now >= self._probed_at + self.SILENT_S else None
        if now < self._heard_at + self.SILENT_S:
            return None
        self._probed_at = now
        return "probe"
