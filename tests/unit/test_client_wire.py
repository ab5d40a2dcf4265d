"""What a client reads off the wire."""

import pytest

from heartwire.client.wire import replies


@pytest.mark.parametrize("method", ["rpc", "presence", "presence_stats", "history"])
def test_the_answer_to_a_question_is_the_json_it_is(method: str) -> None:
    # msgspec reads a field of ``Raw | None`` as null or nothing: an answer ended the connection as not of the protocol.
    (reply,) = replies(f'{{"id":3,"{method}":{{"data": [1, "é"]}}}}')
    assert bytes(getattr(reply, method)).decode() == '{"data": [1, "é"]}'


@pytest.mark.parametrize(
    "line",
    [
        '{"id":1,"connect":{"client":"c","data":{"hello":1}}}',
        '{"id":2,"subscribe":{"epoch":"e","data":"x"}}',
        '{"push":{"channel":"a","pub":{"data":1,"info":{"user":"u","conn_info":{"x":1}}}}}',
    ],
)
def test_data_of_the_application_may_be_anything(line: str) -> None:
    assert len(list(replies(line))) == 1
