"""Uploads: bodies of requests, and large messages of WebSockets, that are not complete yet.

Together they have a bound, and each body has to go on. In: the bytes of each as they come, and the time. Out:
refusals, and the end of those that stand still. Bodies are read by `heartwire.server.requests.read_body`.
"""

import asyncio
from typing import Final

from heartwire.core.deadlines import Deadlines
from heartwire.errors import LimitExceeded, Refused
from heartwire.hub.clocks import Clocks

__all__ = ["STALL_S", "Upload", "Uploads"]

STALL_S: Final = 30
"""How long a body may bring nothing."""

_FULL_STALL_S: Final = 1
"""The same while the others need the room."""


class Upload:
    """One body. Its ``timeout`` ends the reading; ``refusal`` is why."""

    __slots__ = ("refusal", "since", "size", "timeout")

    def __init__(self, now: float) -> None:
        self.since = now
        self.size = 0
        self.timeout = asyncio.timeout(None)
        self.refusal: Refused | None = None


class Uploads:
    """Those of one node. One deadline serves for all: the one that has brought nothing for longest is first.

    Args:
        max_bytes: of all together. Over it those are ended that have brought nothing for a second; then what
            comes is refused.
    """

    def __init__(self, max_bytes: int, clocks: Clocks, deadlines: Deadlines) -> None:
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._clocks = clocks
        self._deadlines = deadlines
        self._is_watched = False
        self._open: dict[Upload, None] = {}

    def begin(self) -> Upload:
        """Begin one; `end` must follow."""
        upload = Upload(self._clocks.monotonic())
        self._open[upload] = None
        if not self._is_watched:
            self._is_watched = True
            self._deadlines.at(upload.since + STALL_S, self)
        return upload

    def grow(self, upload: Upload, size: int) -> None:
        """Count bytes that came. Raises `LimitExceeded` (``uploads_full``)."""
        if upload not in self._open:
            return  # ended; its reader learns it at once
        upload.since = self._clocks.monotonic()
        del self._open[upload]
        self._open[upload] = None
        wanted = self.size_bytes + size
        if wanted > self._max_bytes:
            self._end_stalled(upload.since - _FULL_STALL_S, wanted - self._max_bytes)
            wanted = self.size_bytes + size
            if wanted > self._max_bytes:
                what = "bytes of incomplete bodies on this node"
                raise LimitExceeded("uploads_full", what, wanted, self._max_bytes, "max_upload_bytes")
        upload.size += size
        self.size_bytes = wanted

    def end(self, upload: Upload) -> None:
        """The body is complete, or refused. Idempotent."""
        if upload in self._open:
            del self._open[upload]
            self.size_bytes -= upload.size

    def recount(self, before: int, after: int) -> bool:
        """Count what a connection holds besides: an incomplete message, commands that wait. False where that
        is more than there is room for. At last ``after`` must be 0."""
        self.size_bytes += after - before
        return after <= before or self.size_bytes <= self._max_bytes

    def refuse_all(self, refusal: Refused) -> None:
        """End all that are under way."""
        for upload in tuple(self._open):
            self._refuse(upload, refusal)

    def handle_deadline(self, now: float) -> None:
        """See `Timed`."""
        self._end_stalled(now - STALL_S, self._max_bytes + 1)  # all of them, those of 0 bytes too
        first = next(iter(self._open), None)
        self._is_watched = first is not None
        if first is not None:
            self._deadlines.at(first.since + STALL_S, self)

    def _end_stalled(self, since: float, size: int) -> None:
        """End those that have brought nothing ``since``, until they have left ``size`` bytes."""
        wanted = self.size_bytes - size
        while self._open and self.size_bytes > wanted:
            upload = next(iter(self._open))
            if upload.since > since:
                return
            message = f"the body stopped after {upload.size} bytes: send it without a pause"
            self._refuse(upload, Refused("upload_stalled", message))

    def _refuse(self, upload: Upload, refusal: Refused) -> None:
        self.end(upload)
        upload.refusal = refusal
        upload.timeout.reschedule(0)
