"""Server-sent events, byte by byte."""

import pytest

from heartwire.transports.http.sse import SseEvent, SseFormat, opening, returning, sse_event
from heartwire.types import Channel, Position, Publication


def test_a_stream_opens_with_a_comment_and_the_time_to_come_back_after() -> None:
    """A comment reaches the client through a proxy that does not buffer; `retry` spreads the reconnects."""
    assert opening(1500) == b": heartwire\nretry: 1500\n\n"


def test_a_client_that_is_to_come_back_later_gets_the_time_alone() -> None:
    assert returning(2000) == b"retry: 2000\n\n"


@pytest.mark.parametrize(
    ("message", "block"),
    [
        (None, b"id: e.1\n\n"),
        (SseEvent(None, b"x"), b"id: e.1\ndata: x\n\n"),
        (SseEvent(b"gap", b"{}"), b"id: e.1\nevent: gap\ndata: {}\n\n"),
        (SseEvent(None, b""), b"id: e.1\ndata: \n\n"),
        (SseEvent(None, b"a\nb\rc\r\nd"), b"id: e.1\ndata: a\ndata: b\ndata: c\ndata: d\n\n"),
    ],
)
def test_a_block_has_its_id_and_a_line_for_each_line_of_data(message: SseEvent | None, block: bytes) -> None:
    assert sse_event("e.1", message) == block


def _message(publication: Publication) -> SseEvent:
    return SseEvent(None, publication.data)


def test_the_joined_event_has_the_position_and_whether_it_was_recovered() -> None:
    given: list[object] = []

    def joined(position: Position, recovered: bool) -> SseEvent:
        given.append((position, recovered))
        return SseEvent(b"joined", b"{}")

    format = SseFormat(_message, joined, _message)
    told = format.joined(Channel("a"), Position("e", 7), recovered=False)
    assert told == b"id: e.7\nevent: joined\ndata: {}\n\n"
    assert given == [(Position("e", 7), False)]
