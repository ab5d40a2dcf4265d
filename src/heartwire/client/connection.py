"""One connection as the machine knows it: commands that are not answered, and commands that wait to be
sent."""

from typing import Any, Final, NamedTuple

from heartwire.client.channel_state import ChannelState
from heartwire.client.wire import command, take_frame
from heartwire.types import Position

__all__ = ["Asked", "Connection"]

_POLLED: Final = ("connect", "subscribe", "ping")


class Asked(NamedTuple):
    """A subscribe in flight: the command's id, its channel, and the position it asked for."""

    id: int
    state: ChannelState
    position: Position | None

    def is_outdated(self, now: ChannelState) -> bool:
        """Whether the channel was subscribed again, paused, or placed by another connection since."""
        is_placed = self.position is None and now.position is not None
        return now is not self.state or now.is_paused or is_placed


class Connection:
    """One connection.

    Args:
        generation: its number.
        transport: its name.
        rung: of the ladder.
        now: monotonic seconds.
        ping_interval_s: how often the server is expected to send something.

    Attributes:
        is_pull: the client asks for news (``longpoll``, ``poll``).
        is_posting: commands go in requests of their own, one after the other.
        waiting: commands that are not answered, by id: the method, and what it is about.
        asked: the subscribes in flight, by channel.
        queue: commands that wait to be sent.
        is_sending: such a request is in flight.
        is_excused: it was given more time after a sleep, and nothing was heard since.
        online_at: when the server answered `connect`; ``None`` before.
        had_heartbeat: it has lived as long as it takes to hear a heartbeat.
        polled_at, wait_s: when the poll in flight was sent, and how long the server may hold it.
        had_news, had_full_page: whether its answer brought anything so far, and as much as an answer holds.
        cut_after_s: how long a poll was held before something in between cut it; 0 where none was.
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
        """Return a command, whose answer is awaited from now on."""
        self.waiting[id] = method, of
        return command(id, method, body)

    def forget_poll(self) -> None:
        """Forget the commands of the last poll: another takes its place, and they will not be answered."""
        self.waiting = {id: asked for id, asked in self.waiting.items() if asked[0] not in _POLLED}

    def take_frame(self) -> str:
        """Return the next frame; "" where there is none, or a request is still in flight."""
        return "" if self.is_sending else take_frame(self.queue)
