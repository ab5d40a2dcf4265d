"""Encoding of the plain dialect. `requests` has the decoding of requests.

In: publications, positions, members, errors. Out: JSON bytes for HTTP bodies, events and WebSocket messages.
Called by the modules of `heartwire.server.plain`.

The rule for data: text that is valid JSON is sent as that JSON, other text as a JSON string, bytes as base64
in a JSON string with ``"encoding":"base64"`` beside it.
"""

import base64
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from heartwire.channels import to_channel
from heartwire.errors import Refused
from heartwire.messages import Body
from heartwire.text import check_text, is_json
from heartwire.types import Channel, Member, Position, Publication, Publisher

__all__ = [
    "data_json",
    "error_json",
    "joined_json",
    "members_json",
    "page_json",
    "parse_command",
    "position_json",
    "publication_json",
    "since_json",
]

_encode: Final = msgspec.json.encode


def data_json(data: bytes, is_text: bool) -> bytes:
    """Return the members ``"data"`` and, for bytes, ``"encoding"`` of a JSON object, without the braces."""
    if not is_text:
        return b'"data":"' + base64.b64encode(data) + b'","encoding":"base64"'
    return b'"data":' + (data.strip(b" \t\r\n") if is_json(data) else _encode(data.decode()))


def publication_json(publication: Publication, *, with_channel: bool = False) -> bytes:
    """Return a publication as JSON, with its channel where wanted and its publisher where known."""
    channel = b'"channel":' + _encode(publication.channel) + b"," if with_channel else b""
    publisher = b',"publisher":' + _publisher_json(publication.publisher) if publication.publisher else b""
    head = b'{"position":"%b.%d",' % (publication.epoch.encode(), publication.offset)
    return b"".join((head, channel, data_json(publication.data, publication.is_text), publisher, b"}"))


def joined_json(channel: Channel | None, position: Position, *, recovered: bool) -> bytes:
    """Return the notice of a reader's position, with the channel's name for a reader of several."""
    fields: dict[str, Any] = {"position": str(position), "recovered": recovered}
    if channel is not None:
        fields["channel"] = channel
    return _encode(fields)


def position_json(position: str) -> bytes:
    """Return a heartbeat with the position that the reader should have."""
    return b'{"position":"%b"}' % position.encode()


def since_json(since: str) -> bytes:
    """Return the notice of its start for a reader of several channels."""
    return b'{"since":"%b","recovered":true}' % since.encode()


def end_json(end: Publication, *, with_channel: bool = False) -> bytes:
    """Return the notice that a stream is closed, with its channel where wanted."""
    channel = b'"channel":' + _encode(end.channel) + b"," if with_channel else b""
    return b'{%b"position":"%b.%d","end":%b}' % (channel, end.epoch.encode(), end.offset, end.data)


def page_json(
    publications: Iterable[bytes], position: str, *, recovered: bool, ends: Sequence[bytes] = ()
) -> bytes:
    """Return the answer to a poll, given publications encoded by `publication_json`, and ends of streams by
    `end_json`."""
    tail = b'],"position":"%b","recovered":%b' % (position.encode(), b"true" if recovered else b"false")
    closed = b',"ends":[%b]}' % b",".join(ends) if ends else b"}"
    return b'{"publications":[' + b",".join(publications) + tail + closed


def members_json(members: Iterable[Member]) -> bytes:
    """Return the answer to a presence request, in the order of client ids."""
    listed = [
        {"client": member.client, "user": member.user}
        | ({"info": msgspec.Raw(member.info)} if member.info else {})
        for member in sorted(members, key=lambda member: member.client)
    ]
    return _encode({"presence": listed})


def error_json(code: str, message: str, *, retry: bool, after_s: float | None = None) -> bytes:
    """Return an error, for HTTP bodies and JSON WebSocket messages alike."""
    error: dict[str, Any] = {"code": code, "message": message, "retry": retry}
    if after_s is not None:
        error["retry_after_s"] = after_s
    return _encode({"error": error})


class _Command(msgspec.Struct, frozen=True):
    channel: str
    data: msgspec.Raw
    encoding: str | None = None


_command_decoder: Final = msgspec.json.Decoder(_Command)


def parse_command(data: bytes) -> tuple[Channel, Body]:
    """Read a message ``{"channel","data"}`` of a WebSocket; a string is text, other JSON stays JSON.

    Raises:
        Refused: ``bad_request``, ``bad_channel`` or ``invalid_utf8``.
    """
    try:
        command = _command_decoder.decode(check_text(data))
        channel = to_channel(command.channel)
        if command.encoding == "base64":
            text = msgspec.json.decode(command.data, type=str)
            return channel, Body(False, base64.b64decode(text, validate=True))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Refused("bad_request", f'expected {{"channel":"NAME","data":…}}: {error}') from None
    if command.encoding is not None:
        raise Refused("bad_request", f'encoding {command.encoding[:32]!r}: "base64", or leave it out')
    raw = bytes(command.data)
    return channel, Body(True, msgspec.json.decode(raw, type=str).encode() if raw.startswith(b'"') else raw)


def _publisher_json(publisher: Publisher) -> bytes:
    fields: dict[str, Any] = {"user": publisher.user, "client": publisher.client}
    if publisher.info:
        fields["info"] = msgspec.Raw(publisher.info)
    return _encode(fields)
