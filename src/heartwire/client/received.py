"""What an application gets: publications, and the errors of what it asked for."""

import base64
from typing import Any, Final

import msgspec

from heartwire.client.outputs import Delivered, Failed, Rejected
from heartwire.errors import Forbidden, GivenUp, HeartwireError, Refused, Unauthorized
from heartwire.types import Position

__all__ = ["Received", "encoded", "error_of", "refused"]


class Received(msgspec.Struct, frozen=True):
    """A publication, as a subscriber gets it.

    Attributes:
        channel: where it was published.
        data: what was published: text as ``str``, bytes as ``bytes``, and JSON parsed.
        position: right after it; ``None`` in a channel without positions.
        user, client: who published it; "" where that is not known.
        raw: ``data`` as the JSON it came as.
        encoding: "text" or "base64" where that JSON is a string that stands for something else.
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
        """The bytes that were published: of text its UTF-8, of JSON its text."""
        if self.encoding == "base64":
            return bytes(self.data)
        return (self.data if self.encoding == "text" else self.raw).encode()

    @classmethod
    def of(cls, output: Delivered) -> "Received":
        """Read what came."""
        data = msgspec.json.decode(output.data)
        if output.encoding == "base64":
            data = base64.b64decode(data)
        position = Position(output.epoch, output.offset) if output.epoch else None
        return cls(output.channel, data, position, output.user, output.client, output.data, output.encoding)


def encoded(data: object) -> tuple[str, str]:
    """A message as JSON, and the encoding that says what it is: str is text, bytes are base64, anything else is itself.

    Raises ``TypeError`` for what cannot be written as JSON.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return f'"{base64.b64encode(data).decode()}"', "base64"
    return msgspec.json.encode(data).decode(), "text" if isinstance(data, str) else ""


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
    """The error of a refusal, by its number in the Centrifugal protocol."""
    if number == 101:
        return Unauthorized(message)
    if number == 103:
        return Forbidden(message)
    return Refused(_NAMES.get(number, "bad_request"), message)


def error_of(output: Rejected | Failed) -> HeartwireError:
    """Why a publish or a request came to nothing."""
    return refused(output.code, output.message) if output.code else GivenUp(output.message, is_unknown=output.is_unknown)
