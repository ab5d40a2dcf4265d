"""The appends of one producer: which request is next, and what its answer means. Pure.

One request is in flight, with all that waited when it was made. It is the same until it is acknowledged, so a
server that has it already, by the producer's number, does not append it twice.
"""

from collections import deque

from heartwire.client.options import Options
from heartwire.client.streams_wire import Answer, is_true, refusal
from heartwire.client.wire import MAX_FRAME
from heartwire.errors import Refused

__all__ = ["Producing"]


class Producing:
    """See the module.

    ``is_new``: nobody else has ever had this id. ``can_claim``: where its epoch is taken, or over, go on in
    the one after that, once.
    """

    def __init__(self, id: str, epoch: int, options: Options, *, is_new: bool, can_claim: bool) -> None:
        self.id, self.epoch, self._seq = id, epoch, 0
        self.offset = ""
        self.is_json = self.is_closed = False
        self._options, self._is_new, self._can_claim = options, is_new, can_claim
        self._waiting: deque[bytes] = deque()
        self._size = self._tries = 0
        self._flight: list[bytes] | None = None
        self._is_closing = self._closes = False

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to send."""
        return self._flight is None and not self._waiting and not self._is_closing

    def add(self, body: bytes) -> bool:
        """Append it after what waits. False: there is no room. Raises `Refused` (``stream_closed``)."""
        if self._is_closing or self.is_closed:
            raise Refused("stream_closed", "this producer has closed its stream")
        options, waiting, size = self._options, len(self._waiting), self._size + len(body)
        if waiting and (waiting >= options.max_pending_items or size > options.max_pending_bytes):
            return False
        self._waiting.append(body)
        self._size = size
        return True

    def close(self) -> None:
        """Close the stream with the last append, or after it."""
        self._is_closing = not self.is_closed

    def take(self) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of the request that is next."""
        if self._flight is None:
            self._flight = self._batch()
            self._closes, self._tries = self._is_closing and not self._waiting, 0
        self._tries += 1
        headers = {"Producer-Id": self.id, "Producer-Epoch": str(self.epoch), "Producer-Seq": str(self._seq)}
        if self._closes:
            headers["Stream-Closed"] = "true"
        if self.is_json and self._flight:
            return headers, b"[" + b",".join(self._flight) + b"]"
        return headers, b"".join(self._flight)

    def answered(self, answer: Answer) -> int | None:
        """Take an answer. Return how many appends it acknowledges; ``None``: they have to be sent again.

        Raises its `refusal`.
        """
        current = answer.headers.get("Producer-Epoch", "")
        if answer.status not in (200, 204) and not (answer.status == 403 and current):
            raise refusal(answer)
        if answer.status == 403 or not self._is_ours(answer):
            self._claim(current or str(self.epoch))
            return None
        self.offset = answer.headers.get("Stream-Next-Offset", self.offset)
        self.is_closed = self._closes or is_true(answer.headers, "Stream-Closed")
        self._is_closing = self._is_closing and not self.is_closed
        count, self._flight = len(self._flight or ()), None
        self._seq += 1
        return count

    def _batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0]) <= MAX_FRAME):
            batch.append(self._waiting.popleft())
            size += len(batch[-1])
        self._size -= size
        return batch

    def _is_ours(self, answer: Answer) -> bool:
        """Whether it was this producer, not one of the same id and epoch before it, that appended this."""
        if answer.status == 200 or self._is_new or not self._flight:
            return True
        last = answer.headers.get("Producer-Seq", str(self._seq))
        return last == str(self._seq) and (self._tries > 1 or self._seq > 0)

    def _claim(self, current: str) -> None:
        if not (self._can_claim and current.isascii() and current.isdigit() and len(current) < 17):
            epoch = f"epoch {self.epoch} of producer {self.id!r}"
            raise Refused("stale_producer", f"{epoch} was used already; the stream has it in epoch {current}")
        self._can_claim = False
        self.epoch, self._seq, self._tries = int(current) + 1, 0, 0
