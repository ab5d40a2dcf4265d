"""Close codes, and what a client does after each."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import connect, refused, scenario


@scenario(draws=(0.0,))
def the_end_as_a_push(client: Recorder) -> None:
    connect(client)
    client.received(1, {"push": {"disconnect": {"code": 3012, "reason": "no pong"}}}, "{}")
    assert client.fields("Closed") == [[3012, "no pong", True, 0]]
    assert client.kinds() == ["Close", "StateChanged", "Closed", "StateChanged", "Open"]


@scenario()
def never_as_a_push(client: Recorder) -> None:
    connect(client)
    client.received(1, {"push": {"disconnect": {"code": 3503, "reason": "force disconnect"}}})
    assert client.fields("Closed") == [[3503, "force disconnect", True, -1]]


@scenario()
def connect_is_refused_for_good(client: Recorder) -> None:
    client.start()
    client.received(1, refused(1, 103, "permission denied"))
    assert client.fields("Closed") == [[103, "permission denied", False, -1]]


@scenario()
def connect_is_refused_for_now(client: Recorder) -> None:
    client.start()
    client.received(1, refused(1, 100, "internal", temporary=True))
    assert client.fields("Closed") == [[100, "internal", False, 5]]


@scenario()
def what_is_not_of_the_protocol_ends_the_connection(client: Recorder) -> None:
    connect(client)
    client.received(1, '{"id":[]}')
    assert client.fields("Closed")[0][:1] == [1006]


@scenario()
def what_is_unknown_is_passed_over(client: Recorder) -> None:
    connect(client)
    client.received(
        1,
        {"push": {"channel": "a", "join": {"info": {}}}},
        {"id": 77, "future": {}},
        "",
        {"id": 1, "connect": {}},
    )
    assert not client.last


@scenario()
def what_an_old_connection_says_is_not_heard(client: Recorder) -> None:
    connect(client)
    client.lost(1)
    client.received(1, {"push": {"message": {"data": 1}}})
    client.lost(1)
    client.sent(1)
    client.polled(1)
    assert not any(step["outputs"] for step in client.steps[-4:])
