"""Bodies: what a program publishes, as text or bytes."""

import pytest

from heartwire.messages import Body, to_body


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"\xff", Body(False, b"\xff")),
        (bytearray(b"x"), Body(False, b"x")),
        (memoryview(b"x"), Body(False, b"x")),
        ("é", Body(True, "é".encode())),
        ("", Body(True, b"")),
        ({"text": "hi"}, Body(True, b'{"text":"hi"}')),
        ([1, None, True], Body(True, b"[1,null,true]")),
        (5, Body(True, b"5")),
        (None, Body(True, b"null")),
    ],
)
def test_what_a_program_publishes(data: object, body: Body) -> None:
    assert to_body(data) == body


def test_data_that_cannot_be_json_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="object"):
        to_body(object())
