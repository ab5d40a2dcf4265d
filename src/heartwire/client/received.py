"""Values that cross from the application to the wire and back: messages, publications, answers and errors."""

import base64
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from heartwire.client.outputs import Delivered, Failed, Rejected
from heartwire.client.wire import Pub
from heartwire.errors import Forbidden, GivenUp, HeartwireError, ProtocolError, Refused, Unauthorized
from heartwire.messages import to_json
from heartwire.types import Position

__all__ = [
    "Received",
    "encoded",
    "error_of",
    "history_of",
    "json_of",
    "presence_of",
    "refused",
    "rpc_of",
    "value_of",
]


T = TypeVar("T", bound=msgspec.Struct)


class Received(msgspec.Struct, frozen=True):
    """A publication, as a subscriber gets it.

    Attributes:
        data: text as ``str``, bytes as ``bytes``, JSON parsed. JSON that Python cannot read, such as a number
            of 5,000 digits, stays a ``str``.
        position: ``None`` in a channel without positions.
        user, client: the publisher; "" where unknown.
        raw: ``data`` as JSON, as received.
        encoding: "text" or "base64" where that JSON is a string that stands for text or bytes.
    """

    channel: str
    data: Any
    position: Position | None
    user: str
    client: str
    raw: str
    encoding: str

    @property
    def payload(self) -> bytes:
        """The exact bytes that were published."""
        if self.encoding == "base64":
            return bytes(self.data)
        return (self.data if self.encoding == "text" else self.raw).encode()

    @classmethod
    def of(cls, output: Delivered) -> "Received":
        """Read a publication. Raises nothing: whatever somebody published, the next ones are wanted, too."""
        data, encoding = value_of(output.data), output.encoding
        if encoding == "base64":
            try:
                data = base64.b64decode(data)
            except (ValueError, TypeError):
                encoding = ""
        elif encoding == "text" and not isinstance(data, str):
            encoding = ""
        position = Position(output.epoch, output.offset) if output.epoch else None
        return cls(output.channel, data, position, output.user, output.client, output.data, encoding)


def value_of(text: str) -> Any:
    """Return the value of JSON, or the text itself where Python cannot read it."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):  # msgspec.DecodeError is a ValueError
        return text


def encoded(data: object) -> tuple[str, str]:
    """Return a message as JSON, and its encoding: str is "text", bytes are "base64", anything else "".

    Raises ``TypeError`` where it cannot be written as JSON.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return f'"{base64.b64encode(data).decode()}"', "base64"
    return json_of(data), "text" if isinstance(data, str) else ""


def json_of(data: object) -> str:
    """Return a value as JSON. Raises ``TypeError`` where it cannot be written so."""
    return to_json(data).decode()


class _Presence(msgspec.Struct, frozen=True):
    presence: dict[str, Any] = {}


class _History(msgspec.Struct, frozen=True):
    epoch: str = ""
    publications: tuple[Pub, ...] = ()


class _Rpc(msgspec.Struct, frozen=True):
    data: Raw = Raw(b"null")


def presence_of(answer: str) -> dict[str, Any]:
    """Read an answer to ``presence``. This and the next two raise `ProtocolError` where it is malformed."""
    return _answer(answer, _Presence).presence


def history_of(channel: str, answer: str) -> list[Received]:
    """Read an answer to ``history``."""
    page = _answer(answer, _History)
    return [Received.of(Delivered.of(channel, page.epoch, pub)) for pub in page.publications]


def rpc_of(answer: str) -> Any:
    """Read an answer to ``rpc``."""
    return value_of(bytes(_answer(answer, _Rpc).data).decode())


def _answer(text: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{text:.80}: {error}") from None


_NAMES: Final = {
    100: "internal",
    102: "unknown_channel",
    104: "method_not_found",
    105: "already_subscribed",
    106: "limit_exceeded",
    107: "bad_request",
    108: "not_available",
    109: "token_expired",
    110: "expired",
    111: "too_many_requests",
    112: "unrecoverable_position",
}


def refused(number: int, message: str) -> HeartwireError:
    """Return the error of a refusal, by its number in the Centrifugal protocol."""
    if number == 101:
        return Unauthorized(message)
    if number == 103:
        return Forbidden(message)
    return Refused(_NAMES.get(number, "bad_request"), message)


def error_of(output: Rejected | Failed) -> HeartwireError:
    """Return the error of a publish or a request that failed."""
    if output.code:
        return refused(output.code, output.message)
    return GivenUp(output.message, is_unknown=output.is_unknown)
