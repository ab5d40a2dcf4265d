"""One connection as the machine knows it: what was asked on it and is not answered, and what waits to be
sent."""

from typing import Any, Final, NamedTuple

from heartwire.client.channel_state import ChannelState
from heartwire.client.wire import command, take_frame
from heartwire.types import Position

__all__ = ["Asked", "Connection"]

_POLLED: Final = ("connect", "subscribe", "ping")


class Asked(NamedTuple):
    """A subscribe that is on the way: the command's id, whose it is, and the position it said."""

    id: int
    state: ChannelState
    position: Position | None

    def is_outdated(self, now: ChannelState) -> bool:
        """Whether its channel was begun anew, paused, or placed by another connection, since it was asked
        for."""
        return now is not self.state or now.is_paused or (self.position is None and now.position is not None)


class Connection:
    """Args: its generation, the transport, the rung of the ladder that is, and when it was begun.

    Attributes:
        is_pull: the client asks for news (``longpoll``, ``poll``).
        is_posting: what is sent goes in requests, one after the other, and not through the connection itself.
        waiting: what was asked, by the command's id: a kind, and of what.
        asked: the subscribes that are on the way, by channel.
        queue: commands that wait to be sent.
        is_sending: such a request is out.
        is_excused: a time limit of it was over while we slept, and it was given another since it was heard
            last.
        online_at: when the server answered `connect`; ``None`` before.
        had_heartbeat: it has lived as long as it takes to hear a heartbeat.
        polled_at, wait_s: when the poll that is out was sent, and how long it may be held.
        had_news, had_full_page: what its answer brought so far.
        cut_after_s: how long a poll was held before something in between ended it; 0: none was.
    """

    __slots__ = (
        "asked",
        "cut_after_s",
        "generation",
        "had_full_page",
        "had_heartbeat",
        "had_news",
        "is_excused",
        "is_posting",
        "is_pull",
        "is_sending",
        "online_at",
        "opened_at",
        "ping_interval_s",
        "polled_at",
        "queue",
        "rung",
        "transport",
        "wait_s",
        "waiting",
    )

    def __init__(
        self, generation: int, transport: str, rung: int, now: float, ping_interval_s: float
    ) -> None:
        self.generation = generation
        self.transport = transport
        self.rung = rung
        self.opened_at = now
        self.ping_interval_s = ping_interval_s
        self.is_pull = transport in ("longpoll", "poll")
        self.is_posting = transport != "websocket"
        self.waiting: dict[int, tuple[str, Any]] = {}
        self.asked: dict[str, Asked] = {}
        self.queue: list[str] = []
        self.is_excused = False
        self.is_sending = self.had_heartbeat = self.had_news = self.had_full_page = False
        self.online_at: float | None = None
        self.polled_at = now
        self.wait_s = self.cut_after_s = 0.0

    def command(self, id: int, method: str, body: object, of: Any = None) -> str:
        """A command, whose answer is awaited from now on."""
        self.waiting[id] = method, of
        return command(id, method, body)

    def forget_poll(self) -> None:
        """Another poll takes the place of the last: what that asked and is not answered will not be."""
        self.waiting = {id: asked for id, asked in self.waiting.items() if asked[0] not in _POLLED}

    def take_frame(self) -> str:
        """What is to be sent next; "" where there is nothing, or something is still on its way."""
        return "" if self.is_sending else take_frame(self.queue)
