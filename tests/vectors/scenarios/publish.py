"""Publishes are kept until they are answered: in order, each once, within bounds."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import connect, id_of, refused, scenario, welcome


def _kept(id: int, offset: int) -> dict[str, object]:
    return {"id": id, "publish": {"epoch": "e", "offset": offset}}


@scenario()
def it_is_sent_at_once_and_answered(client: Recorder) -> None:
    connect(client)
    key = client.publish({"text": "hi"}, encoding="")
    assert client.last[0][2][0]["publish"] == {
        "channel": "a",
        "data": {"text": "hi"},
        "idempotency_key": key,
        "round": 0,
    }
    client.received(1, _kept(2, 7))
    assert client.last == [["Published", key, "e", 7]]


@scenario()
def it_says_what_its_data_stand_for(client: Recorder) -> None:
    connect(client)
    client.publish("AA==", encoding="base64")
    assert client.last[0][2][0]["publish"]["encoding"] == "base64"
    client.received(1, {"id": 2, "publish": {}})
    assert client.last == [["Published", "key-1", "", 0]]


@scenario()
def what_is_published_before_there_is_a_connection_is_sent_in_order(client: Recorder) -> None:
    client.publish(1)
    client.publish(2)
    connect(client)
    assert [one["publish"]["data"] for one in client.fields("Send")[0][1]] == [1, 2]


@scenario()
def what_was_not_answered_is_sent_again_with_its_key(client: Recorder) -> None:
    connect(client)
    client.publish(1)
    client.publish(2)
    client.received(1, _kept(2, 1))
    client.lost(1)
    client.to_deadline()
    client.received(2, welcome(4))
    assert [one["publish"]["idempotency_key"] for one in client.fields("Send")[-1][1]] == ["key-2"]


@scenario()
def a_refused_publish_is_told(client: Recorder) -> None:
    connect(client)
    client.publish(1)
    client.received(1, refused(2, 103, "permission denied"))
    assert client.last == [["Rejected", "key-1", 103, "permission denied", False]]


@scenario(max_in_flight=2)
def so_many_are_on_the_way_at_a_time(client: Recorder) -> None:
    connect(client)
    for data in range(4):
        client.publish(data)
    assert len(client.fields("Send")) == 2
    client.received(1, _kept(2, 1))
    assert [one["publish"]["data"] for one in client.fields("Send", last=1)[0][1]] == [2]


@scenario()
def what_is_refused_for_now_holds_back_what_came_after_it(client: Recorder) -> None:
    connect(client)
    for data in range(3):
        client.publish(data)
    client.received(1, refused(2, 111, temporary=True))
    client.publish(3)
    assert not client.last
    client.received(1, refused(3, 409, temporary=True))
    client.received(1, refused(4, 409, temporary=True))
    client.to_deadline()
    assert client.now == 0.1875
    assert [(one["publish"]["data"], one["publish"]["round"]) for one in client.last[0][2]] == [
        (0, 1),
        (1, 1),
        (2, 1),
        (3, 1),
    ]


@scenario()
def the_next_round_is_not_before_the_server_said(client: Recorder) -> None:
    connect(client)
    client.publish(0)
    client.publish(1)
    client.received(
        1,
        refused(2, 111, "too many requests; retry_after_ms=2000", temporary=True),
        refused(3, 409, temporary=True),
    )
    client.to_deadline()
    assert client.now == 2


@scenario()
def not_even_on_a_new_connection(client: Recorder) -> None:
    connect(client)
    client.publish(0)
    client.received(1, refused(2, 111, "too many requests; retry_after_ms=2000", temporary=True))
    client.lost(1)
    client.to_deadline()
    client.received(2, welcome(id_of(client, "connect")))
    client.publish(1)
    assert not client.fields("Send", last=2)
    client.to_deadline()
    assert client.now == 2
    assert [(one["publish"]["data"], one["publish"]["round"]) for one in client.last[0][2]] == [
        (0, 0),
        (1, 0),
    ]


@scenario(draws=(1.0,))
def rounds_that_get_nowhere_have_longer_pauses(client: Recorder) -> None:
    connect(client)
    client.publish(0)
    waits = []
    for _ in range(7):
        client.received(1, refused(id_of(client, "publish"), 100, temporary=True))
        before = client.now
        client.to_deadline()
        waits.append(client.now - before)
    assert waits == [0.25, 0.5, 1, 2, 4, 5, 5]


@scenario()
def a_new_connection_begins_with_round_0(client: Recorder) -> None:
    connect(client)
    client.publish(0)
    client.received(1, refused(2, 100, temporary=True))
    client.to_deadline()
    client.lost(1)
    client.to_deadline()
    client.received(2, welcome(id_of(client, "connect")))
    assert client.fields("Send")[-1][1][0]["publish"]["round"] == 0


@scenario(max_pending_age_s=30)
def what_is_too_old_is_given_up(client: Recorder) -> None:
    client.publish(0)
    client.after(10)
    connect(client)
    client.publish(1)
    client.received(1, _kept(id_of(client, "publish"), 1))
    client.after(20)
    assert client.fields("Rejected") == [["key-1", 0, "not answered within 30 s (max_pending_age_s)", True]]


@scenario(max_pending_age_s=30)
def what_was_never_sent_was_not_published(client: Recorder) -> None:
    client.publish(0)
    client.after(30)
    assert client.fields("Rejected")[0][3] is False


@scenario(max_pending_age_s=5)
def what_is_given_up_on_the_way_makes_room_and_its_answer_is_not_heard(client: Recorder) -> None:
    connect(client)
    client.publish(0)
    client.publish(1)
    client.received(1, refused(3, 100, temporary=True))
    client.to_deadline()
    assert len(client.fields("Rejected")) == 2
    client.received(1, _kept(2, 1))
    assert not client.last
    client.to_deadline()
    client.publish(2)
    assert client.last[0][2][0]["publish"]["round"] == 1


@scenario(max_pending_items=2)
def the_outbox_has_a_bound_of_items(client: Recorder) -> None:
    for data in range(3):
        client.publish(data)
    assert client.last == [
        ["Rejected", "key-3", 106, "2 publishes wait already (max_pending_items, max_pending_bytes)", False]
    ]


@scenario(max_pending_bytes=10)
def the_outbox_has_a_bound_of_bytes(client: Recorder) -> None:
    client.publish("123456")
    client.publish("1")
    assert client.kinds() == ["Rejected"]
    client.publish(1)
    assert not client.last


@scenario(max_message_bytes=10)
def what_is_too_large_for_the_server_is_refused_at_once(client: Recorder) -> None:
    client.publish("1234567890")
    assert client.last[0][2] == 106


@scenario()
def the_server_ends_the_connection_because_of_the_largest(client: Recorder) -> None:
    connect(client)
    client.publish("small")
    client.publish("very large")
    client.lost(1, 1009, "over max_message_bytes")
    assert client.fields("Rejected") == [["key-2", 106, "over max_message_bytes", True]]
    client.to_deadline()
    client.received(2, welcome(4))
    assert [one["publish"]["data"] for one in client.fields("Send")[-1][1]] == ["small"]


@scenario()
def there_may_be_nothing_that_was_too_large(client: Recorder) -> None:
    connect(client)
    client.lost(1, 1009, "over max_message_bytes")
    assert not client.fields("Rejected")
    assert client.state() == "waiting"


@scenario(transports=("sse",))
def over_requests_it_goes_one_request_at_a_time(client: Recorder) -> None:
    connect(client, session="s", node="n")
    assert client.fields("Session") == [[1, "s", "n"]]
    client.publish(0)
    client.publish(1)
    client.publish(2)
    assert len(client.fields("Send")) == 1
    client.sent(1)
    assert [one["publish"]["data"] for one in client.fields("Send", last=1)[0][1]] == [1, 2]
    client.received(1, _kept(2, 1), _kept(3, 2), _kept(4, 3))
    assert len(client.fields("Published")) == 3


@scenario(transports=("sse",))
def a_request_that_is_not_answered_is_the_end(client: Recorder) -> None:
    connect(client, session="s", node="n")
    client.publish(0)
    client.to_deadline()
    assert client.now == 10
    assert client.fields("Closed")[0][1] == "a request was not answered in time"


@scenario()
def many_go_in_frames_of_a_bearable_size(client: Recorder) -> None:
    for data in range(3):
        client.publish(str(data) * 30_000)
    connect(client)
    assert [len(one[1]) for one in client.fields("Send")] == [2, 1]
