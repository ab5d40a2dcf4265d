"""The plain dialect's wire formats: what a dialect says, in the frames of a transport. One object each, shared by all links."""

import base64
from typing import Final, NamedTuple

from heartwire.dialects.plain_json import Body, joined_json, publication_json
from heartwire.transports.polling import PollFormat
from heartwire.transports.sse import SseEvent, SseFormat
from heartwire.transports.websocket import AsgiFormat
from heartwire.types import Channel, Position, Publication

__all__ = ["POLL", "POLL_MULTI", "SOCKET_JSON", "SOCKET_RAW", "SSE_JSON", "SSE_RAW", "STREAM_MULTI", "News", "json_body"]


class News(NamedTuple):
    """What a link that follows several channels is handed: it knows the other channels' positions, the format does not."""

    channel: Channel
    publications: list[tuple[Position, bytes]]
    position: Position
    recovered: bool = True


class _MultiFormat:
    """`WireFormat` for links that follow several channels."""

    def encode(self, publication: Publication) -> tuple[Position, bytes]:
        """See `WireFormat.encode`."""
        return publication.position, publication_json(publication, with_channel=True)

    def join(self, frames: list[tuple[Position, bytes]], channel: Channel, position: Position) -> News:
        """See `WireFormat.join`."""
        return News(channel, frames, position)

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> News:
        """See `WireFormat.joined`."""
        return News(channel, [], position, recovered)


def json_body(data: bytes) -> Body:
    """JSON as a text message."""
    return Body(True, data)


def _raw(publication: Publication) -> Body:
    return Body(publication.is_text, publication.data)


def _raw_joined(position: Position, recovered: bool) -> Body | None:
    return None  # nothing but messages: a gap closes the link


def _wrapped(publication: Publication) -> Body:
    return json_body(publication_json(publication))


def _wrapped_joined(position: Position, recovered: bool) -> Body:
    return json_body(joined_json(None, position, recovered=recovered))


def _sse_raw(publication: Publication) -> SseEvent:
    if publication.is_text:
        return SseEvent(None, publication.data)

    return SseEvent(b"bytes", base64.b64encode(publication.data))


def _sse_wrapped(publication: Publication) -> SseEvent:
    return SseEvent(None, publication_json(publication))


def _sse_joined(position: Position, recovered: bool) -> SseEvent | None:
    return None if recovered else SseEvent(b"gap", joined_json(None, position, recovered=False))


def _multi_publication(publication: Publication) -> bytes:
    return publication_json(publication, with_channel=True)


SOCKET_RAW: Final = AsgiFormat(_raw, _raw_joined)
SOCKET_JSON: Final = AsgiFormat(_wrapped, _wrapped_joined)
SSE_RAW: Final = SseFormat(_sse_raw, _sse_joined)
SSE_JSON: Final = SseFormat(_sse_wrapped, _sse_joined)
POLL: Final = PollFormat(publication_json)
POLL_MULTI: Final = PollFormat(_multi_publication)
STREAM_MULTI: Final = _MultiFormat()
