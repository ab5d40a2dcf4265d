"""One connection as the machine knows it, with its commands that wait to be sent or answered."""

from dataclasses import dataclass, field
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


@dataclass(slots=True, eq=False)
class Connection:
    """One connection."""

    generation: int
    transport: str
    rung: int  # of the ladder
    polled_at: float  # when the poll in flight was sent
    ping_interval_s: float  # how often the server is expected to send something
    waiting: dict[int, tuple[str, Any]] = field(default_factory=dict)
    """Commands that are not answered, by id: the method, and what it is about."""
    asked: dict[str, Asked] = field(default_factory=dict)  # the subscribes in flight, by channel
    queue: list[str] = field(default_factory=list)  # commands that wait to be sent
    is_sending: bool = False  # a request with commands is in flight
    is_excused: bool = False  # it was given more time after a sleep, and nothing was heard since
    online_at: float | None = None  # when the server answered `connect`
    had_heartbeat: bool = False  # it has lived as long as it takes to hear a heartbeat
    wait_s: float = 0.0  # how long the server may hold the poll in flight
    had_news: bool = False  # its answer has brought something so far
    had_full_page: bool = False  # as much as an answer holds
    cut_after_s: float = 0.0  # how long a poll was held before something in between cut it, if one was

    @property
    def is_pull(self) -> bool:
        """Whether the client asks for news."""
        return self.transport in ("longpoll", "poll")

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
