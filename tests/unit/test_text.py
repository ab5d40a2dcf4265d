"""UTF-8, and what is JSON."""

import pytest

from heartwire.dialects.plain.requests import body_is_text
from heartwire.text import check_text, is_json
from tests.unit.refusals import refusal


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b"\xff", 0),
        (b"ab\xc3", 2),
        (b"\xed\xa0\x80", 0),
        (b"\xc0\xaf", 0),
        (b"\xf4\x90\x80\x80", 0),
        ("é".encode() + b"\xfe", 2),
    ],
)
def test_text_that_is_not_utf8_is_refused(data: bytes, at: int) -> None:
    told = f"text is not UTF-8 at byte {at}: send UTF-8, or bytes as application/octet-stream"
    assert refusal(lambda: check_text(data)) == ("invalid_utf8", told)
    assert refusal(lambda: body_is_text("text/plain", data)) == ("invalid_utf8", told)


def test_utf8_is_given_back_as_it_came() -> None:
    data = "\0 é \U0010ffff".encode()
    assert check_text(data) is data


@pytest.mark.parametrize(
    ("data", "answer"), [(b"1", True), (b"", False), (b"x", False), (b"tru", False), (b"[1,]", False)]
)
def test_is_json(data: bytes, answer: bool) -> None:
    assert is_json(data) is answer
