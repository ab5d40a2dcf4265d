"""Requests and their answers."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import connect, id_of, refused, scenario, welcome

_RPC = {"method": "add", "data": [1, 2]}


@scenario()
def a_question_is_answered(client: Recorder) -> None:
    connect(client)
    id = client.request("rpc", _RPC)
    client.received(1, {"id": id_of(client, "rpc"), "rpc": {"data": 3}})
    assert client.last == [["Answered", id, {"data": 3}]]
    id = client.request("presence", {"channel": "a"})
    client.received(1, {"id": id_of(client, "presence")})
    assert client.last == [["Answered", id, {}]]


@scenario()
def a_question_is_refused(client: Recorder) -> None:
    connect(client)
    id = client.request("history", {"channel": "a", "limit": 1})
    client.received(1, refused(id_of(client, "history"), 103, "permission denied"))
    assert client.last == [["Failed", id, 103, "permission denied", False]]


@scenario()
def a_question_waits_for_a_connection(client: Recorder) -> None:
    id = client.request("presence_stats", {"channel": "a"})
    connect_id = 2
    client.start()
    client.received(1, welcome(connect_id))
    client.received(1, {"id": id_of(client, "presence_stats"), "presence_stats": {"num_clients": 1}})
    assert client.last == [["Answered", id, {"num_clients": 1}]]


@scenario()
def what_only_reads_is_asked_again_and_what_may_have_been_done_is_not(client: Recorder) -> None:
    connect(client)
    call = client.request("rpc", _RPC)
    read = client.request("presence", {"channel": "a"})
    client.lost(1)
    assert client.fields("Failed") == [[call, 0, "the connection was lost", True]]
    client.to_deadline()
    client.received(2, welcome(id_of(client, "connect")))
    client.received(2, {"id": id_of(client, "presence"), "presence": {"presence": {}}})
    assert client.fields("Answered") == [[read, {"presence": {}}]]


@scenario()
def what_was_not_sent_was_not_done_and_is_sent_later(client: Recorder) -> None:
    client.request("rpc", _RPC)
    client.start()
    client.lost(1, is_reachable=False)
    client.to_deadline()
    client.received(2, welcome(id_of(client, "connect")))
    assert id_of(client, "rpc", on=2)


@scenario()
def a_question_that_is_not_answered_in_time(client: Recorder) -> None:
    connect(client)
    client.request("rpc", _RPC)
    client.after(4)
    client.request("presence", {"channel": "a"})
    client.after(6)
    assert [one[3] for one in client.fields("Failed")] == [True]
    client.after(4)
    assert len(client.fields("Failed")) == 2
    client.received(1, {"id": id_of(client, "rpc"), "rpc": {"data": 3}})
    assert not client.last


@scenario()
def a_question_that_was_never_sent_was_not_carried_out(client: Recorder) -> None:
    client.request("rpc", _RPC)
    client.after(10)
    assert client.fields("Failed")[0][1:] == [0, "not answered within 10 s (request_timeout_s)", False]


@scenario(max_message_bytes=40)
def a_question_that_is_too_large_for_the_server_is_refused_at_once(client: Recorder) -> None:
    connect(client)
    client.request("rpc", {"method": "add", "data": "x" * 40})
    assert client.last[0][2] == 106


@scenario(max_pending_items=2)
def questions_that_wait_are_bounded_in_count(client: Recorder) -> None:
    for _ in range(3):
        client.request("rpc", _RPC)
    assert client.last == [
        ["Failed", 3, 106, "2 requests wait already (max_pending_items, max_pending_bytes)", False]
    ]
    client.after(10)
    assert len(client.fields("Failed")) == 3
    client.request("rpc", _RPC)
    assert not client.last


@scenario(max_pending_bytes=50)
def questions_that_wait_are_bounded_in_size(client: Recorder) -> None:
    connect(client)
    for _ in range(2):
        client.request("rpc", _RPC)
    assert client.last[0][2] == 106
    client.received(1, {"id": id_of(client, "rpc"), "rpc": {"data": 3}})
    client.request("rpc", _RPC)
    assert client.kinds() == ["Send"]


@scenario()
def an_answer_that_says_nothing_is_passed_over(client: Recorder) -> None:
    connect(client)
    client.subscribe("a")
    client.token("new")
    client.received(1, {"id": id_of(client, "subscribe")}, {"id": id_of(client, "refresh")})
    assert not client.last
