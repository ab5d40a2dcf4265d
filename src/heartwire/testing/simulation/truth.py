"""What a simulation's store has really kept, for its checks."""

from bisect import bisect_right

from heartwire.types import Position, Publication

__all__ = ["Truth"]


class Truth:
    """Every publication that was ever kept, also those that were trimmed or lost since.

    Attributes:
        streams: bodies by channel and epoch, in order.
        places: the positions of each body.
        lost: bodies that were kept, and are no more, by channel: nothing was told of them.
    """

    def __init__(self) -> None:
        self.streams: dict[str, dict[str, list[bytes]]] = {}
        self.places: dict[tuple[str, bytes], list[Position]] = {}
        self.lost: set[tuple[str, bytes]] = set()
        self._times: dict[tuple[str, str], list[int]] = {}
        self._read: dict[tuple[str, Position], bytes] = {}

    def record(self, publication: Publication) -> None:
        """Note one more that the store has kept."""
        channel, epoch = publication.channel, publication.epoch
        stream = self.streams.setdefault(channel, {}).setdefault(epoch, [])
        stream.append(publication.data)
        assert len(stream) == publication.offset
        self._times.setdefault((channel, epoch), []).append(publication.time_ms)
        self.places.setdefault((channel, publication.data), []).append(publication.position)

    def renew(self, channel: str, was: Position, epoch: str) -> None:
        """A stream goes on in another epoch: up to the offset of ``was`` it is the same."""
        stream = self.streams.get(channel, {}).get(was.epoch, [])
        kept = stream[: was.offset]
        self.lost.update((channel, body) for body in stream[was.offset :])
        if epoch == was.epoch:
            self._lose(channel, was)
            return
        self.streams.setdefault(channel, {})[epoch] = list(kept)
        self._times[channel, epoch] = self._times.get((channel, was.epoch), [])[: was.offset]
        for offset, body in enumerate(kept, 1):
            self.places[channel, body].append(Position(epoch, offset))

    def _lose(self, channel: str, head: Position) -> None:
        for each in (
            self.streams.get(channel, {}).get(head.epoch, []),
            self._times.get((channel, head.epoch), []),
        ):
            del each[head.offset :]

    def at(self, channel: str, position: Position) -> bytes | None:
        """The body at a position; ``None``: there never was one."""
        stream = self.streams.get(channel, {}).get(position.epoch, [])
        return stream[position.offset - 1] if 0 < position.offset <= len(stream) else None

    def read(self, channel: str, position: Position, body: bytes) -> bytes:
        """Somebody has read a body at a position. Returns what was first read there, by anybody."""
        return self._read.setdefault((channel, position), body)

    def offset_at(self, channel: str, epoch: str, time_ms: float) -> int:
        """Where a stream was at a time."""
        return bisect_right(self._times.get((channel, epoch), []), time_ms)
