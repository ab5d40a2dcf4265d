"""What the client's machine reports."""

import pytest

from heartwire.client.outputs import Note


@pytest.mark.parametrize(
    ("note", "text"),
    [
        (Note("moved_up", "sse", "", "websocket"), "moved up from sse to websocket"),
        (Note("stepped_down", "sse", "cut", "poll"), "sse: cut; trying poll"),
        (Note("not_yet", "sse", "HTTP 502"), "sse does not work yet: HTTP 502"),
        (
            Note("polls_cut", "longpoll", "asking for 9.0 s"),
            "long polls are cut in between: asking for 9.0 s",
        ),
    ],
)
def test_a_note_says_its_fields_in_words(note: Note, text: str) -> None:
    assert str(note) == text
