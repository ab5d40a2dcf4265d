"""The `Codec` protocol: bytes to commands, results to bytes. One object serves all connections."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from heartwire.dialects.centrifugal.types import ClientInfo, Command, ErrorBody, Fault, PublishRequest
from heartwire.dialects.centrifugal.values import Post
from heartwire.types import Member, Position, Publication

__all__ = ["Codec", "Method", "PushKind"]

Method = Literal[
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "presence_stats",
    "history",
    "ping",
    "rpc",
    "refresh",
    "sub_refresh",
]

PushKind = Literal["unsubscribe", "message", "subscribe", "disconnect", "refresh"]


class Codec(Protocol):
    """See the module. Every ``bytes`` that is returned is one message, but for `publication` and `join`."""

    __hash__: ClassVar[Callable[[Any], int]] = object.__hash__
    name: str
    """ "json" or "protobuf"."""
    is_text: bool
    """Whether frames are text: how a WebSocket carries them, and how payloads are kept."""
    ping: bytes
    """The message that asks for a pong."""

    def commands(self, data: bytes) -> Iterable[Command | Fault]:
        """The commands of a frame, one after the other, so that those before a malformed one are handled.
        One alone may come as a tuple.

        A `Fault` stands for a command that has an id, and an argument of a wrong type or range, or text that
        is not Unicode: it has a reply, and the rest of the frame is good. Raises ``ValueError`` that names
        the fault where nothing is to be replied to: bytes that are not the encoding, an empty frame, a blank
        line, no id.
        """

    def reply(self, id: int, method: Method, result: msgspec.Struct) -> bytes:
        """The reply to a command. An empty result is written too."""

    def published(self, id: int, position: Position) -> bytes:
        """The reply to ``publish``."""

    def error(self, id: int, error: ErrorBody) -> bytes:
        """The error reply to a command."""

    def publication(self, publication: Publication) -> bytes:
        """A publication's inside, for ``pub`` pushes and ``publications`` of replies; made once for each.

        Raises nothing: data that the encoding cannot carry as it is travels in another form.
        """

    def raw(self, inside: bytes) -> Any:
        """What `publication` made, as an item of a result's ``publications``."""

    def publications(self, channel: str, insides: Sequence[bytes]) -> list[bytes]:
        """One ``pub`` push for each of what `publication` made."""

    def membership(self, channel: str, kind: Literal["join", "leave"], info: ClientInfo) -> bytes:
        """A ``join`` or ``leave`` push."""

    def push(self, kind: PushKind, channel: str, body: msgspec.Struct) -> bytes:
        """Any other push; ``channel`` is "" for those that have none."""

    def info(self, member: Member) -> ClientInfo:
        """A member, as others see it."""

    @staticmethod
    def join(messages: Sequence[bytes], /) -> bytes:
        """Messages, at least one, as one frame."""

    def payload(self, data: bytes) -> msgspec.Raw:
        """An application's bytes (``conn_info``, answers) as a payload. Raises nothing, as `publication`."""

    def post(self, request: PublishRequest) -> Post:
        """The content of a publish. Raises `Refused` (``bad_request``)."""

    def value(self, payload: bytes) -> Any:
        """A payload for an application: parsed where it is JSON; ``None`` where there is none. Raises
        `Refused`, as `parse_json` does."""
