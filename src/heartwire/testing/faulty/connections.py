"""One connection through a `FaultyNetwork`: two sockets, a pipe each way, and the HTTP in them."""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from heartwire.testing.faulty.exchanges import Exchanges, answer
from heartwire.testing.faulty.faults import LOST, WELL, ConnectionRecord, Direction, Faults
from heartwire.testing.faulty.pipes import Ending, Pipe
from heartwire.testing.faulty.sides import READ_BYTES, Side
from heartwire.testing.network import counted_bytes

if TYPE_CHECKING:
    from heartwire.testing.faulty.network import FaultyNetwork

__all__ = ["Address", "Connection"]

Address = tuple[socket.AddressFamily, tuple[object, ...]]

_UNDER_WAY: Final = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)


class Connection:
    """A connection accepted from a client, and the one to the server behind it. Made by `FaultyNetwork`.

    Attributes:
        closed: both sockets are closed; nothing passes or counts any more.
        lost: `FaultyNetwork.lose` took it: nothing passes, after `FaultyNetwork.heal` neither.
    """

    def __init__(
        self, network: "FaultyNetwork", client: socket.socket, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.closed = self.lost = False
        self.loop = loop
        self.record = ConnectionRecord(network.accepted, loop.time())
        self._network = network
        self._up, self._down = Pipe(self, "up"), Pipe(self, "down")
        self._client = Side(loop, client, self._client_readable, self._client_writable)
        self._server: Side | None = None
        self._connected = False
        self._untried = list(network.addresses)
        self._limit = network.faults.cut_after
        self._exchanges = Exchanges(self)
        self._active_at = loop.time()
        self._idle_timer: asyncio.TimerHandle | None = None

    # -- faults ----------------------------------------------------------------------------------------------

    @property
    def faults(self) -> Faults:
        """The faults that apply to this connection now."""
        faults = self._network.faults
        return LOST if self.lost else faults if faults.meet(self.record.path) else WELL

    @property
    def judge_heads(self) -> bool:
        return self._network.faults.judge_heads

    def due(self) -> float:
        """When to pass on what comes in now."""
        faults = self.faults
        jitter_s = self._network.rng.uniform(0, faults.jitter_s) if faults.jitter_s else 0.0
        return self.loop.time() + faults.delay_s + jitter_s

    def limit(self, direction: Direction) -> int | None:
        """After how many bytes of this direction to reset it; None: no limit."""
        if self._limit is None or self._limit[1] != direction:
            return None
        return self._limit[0] if self._network.faults.meet(self.record.path) else None

    def refresh(self) -> None:
        """Apply faults that have changed."""
        if self.closed:
            return
        if self._idle_timer is None:
            self._active_at = self.loop.time()
        self._stop_idle()
        if not self.faults.answering_502:
            self._connect()
        for pipe in (self._up, self._down):
            pipe.flush()
        self.watch()

    def heal(self) -> None:
        """Make everything held back or late due. Call `refresh` after it."""
        self._limit = None
        self._exchanges.heal()
        self._up.hurry()
        self._down.hurry()

    def counted_by_kernel(self) -> tuple[int, int] | None:
        return counted_bytes(self._client.sock)

    # -- the server's side -----------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Begin to connect to the server, once; bytes wait meanwhile."""
        if self._server is not None or self.closed or self.faults.holding:
            return
        if not self._untried:
            self.close(reset=True)  # a server that is down looks like one that just went down
            return
        family, address = self._untried.pop(0)
        sock = socket.socket(family, socket.SOCK_STREAM)
        self._server = Side(self.loop, sock, self._server_readable, self._server_writable)
        if sock.connect_ex(address) in _UNDER_WAY:
            self._server.write(True)
        else:
            self._connect_elsewhere()

    def _connect_elsewhere(self) -> None:
        assert self._server is not None
        self._server.close(reset=True)
        self._server = None
        self._connect()

    def _server_writable(self) -> None:
        assert self._server is not None
        self._server.write(False)
        if not self._connected:
            if self._server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._connect_elsewhere()
                return
            self._connected = True
        self._up.flush()
        self.watch()

    def _server_readable(self) -> None:
        self._read(self._server, self._down, self._exchanges.from_server)

    def _client_writable(self) -> None:
        self._client.write(False)
        self._down.flush()
        self.watch()

    def _client_readable(self) -> None:
        self._read(self._client, self._up, self._exchanges.from_client)

    def _read(self, side: Side | None, pipe: Pipe, take: Callable[[bytes], None]) -> None:
        assert side is not None
        try:
            data = side.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._source_ended(pipe, Ending.RESET)
        else:
            if data:
                self._active_at = self.loop.time()
                take(data)
            else:
                self._source_ended(pipe, Ending.EOF)
        self.watch()

    def _source_ended(self, pipe: Pipe, how: Ending) -> None:
        if pipe is self._down:
            self._exchanges.release()
        else:
            self._exchanges.release_head()
            if self._server is None and not self._up.pending:
                self.finish(b"")  # the server has not seen this connection, and need not
                return
        pipe.end(how)

    # -- for the pipes and the exchanges ---------------------------------------------------------------------

    def send(self, direction: Direction, data: bytes) -> None:
        if not self.closed:
            (self._up if direction == "up" else self._down).put(data)

    def ready(self, direction: Direction) -> bool:
        """Whether the receiving side is connected. Begins to connect the server, now that it is needed."""
        if direction == "up" and not self._connected:
            self._connect()
            return False
        return True

    def transmit(self, direction: Direction, data: memoryview) -> int:
        """Hand bytes to the receiving side's socket. Returns how many it took."""
        side = self._server if direction == "up" else self._client
        assert side is not None
        try:
            return side.sock.send(data)
        except (BlockingIOError, InterruptedError):
            side.write(True)
        except OSError:
            self.close(reset=True)  # the receiver is gone
        return 0

    def passed(self, direction: Direction, data: memoryview) -> None:
        """Count bytes that were handed over."""
        self._active_at = self.loop.time()  # also when it goes out: a throttled connection is not idle
        self._network.count(self.record, direction, data)

    def end(self, direction: Direction, how: Ending) -> None:
        """Pass on the end of one direction."""
        if how is not Ending.EOF:
            self.close(reset=how is Ending.RESET)
        elif all(pipe.ended and not pipe.pending for pipe in (self._up, self._down)):
            self.close(reset=False)
        else:
            side = self._server if direction == "up" else self._client
            assert side is not None
            side.end()

    def watch(self) -> None:
        """Read where there is room, and watch the idle limit."""
        if self.closed:
            return
        faults = self.faults
        connected = self._server if self._connected else None
        for side, pipe in ((self._client, self._up), (connected, self._down)):
            if side is not None:
                side.silence(faults.holding and not faults.acknowledging)
                side.read(not faults.holding and not pipe.ended and not pipe.full)
        self._watch_idle()

    # -- the idle limit --------------------------------------------------------------------------------------

    def _watch_idle(self) -> None:
        limit_s = self.faults.idle_limit_s
        if limit_s is None or self.faults.holding or not self._exchanges.open:
            self._stop_idle()
        elif self._idle_timer is None:
            self._idle_timer = self.loop.call_at(self._active_at + limit_s, self._idle)

    def _idle(self) -> None:
        """Look for bytes since the timer was set: it is not moved with each byte."""
        self._stop_idle()
        limit_s = self.faults.idle_limit_s
        if limit_s is None or self.loop.time() < self._active_at + limit_s:
            self._watch_idle()
        elif self._exchanges.unanswered:
            self.finish(answer(504, "Connection: close"))
        else:
            self.close(reset=False)

    def _stop_idle(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    # -- the end ---------------------------------------------------------------------------------------------

    def finish(self, last: bytes) -> None:
        """Send the client some last bytes, and close."""
        if self._down.ended:
            self.close(reset=False)
            return
        self._up.ended = True
        self.send("down", last)
        self._down.end(Ending.CLOSE)
        self.watch()

    def close(self, *, reset: bool) -> None:
        """Close both sides now, with RST or FIN. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._stop_idle()
        for pipe in (self._up, self._down):
            pipe.stop()
        for side in (self._client, self._server):
            if side is not None:
                side.close(reset=reset)
        self._network.closed(self)
