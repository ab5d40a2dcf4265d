"""Waits between attempts."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import connect, scenario, welcome


@scenario(transports=("websocket",), draws=(1.0,), attempt_burst=100)
def each_wait_may_be_twice_the_last_up_to_the_cap(client: Recorder) -> None:
    client.start()
    for _ in range(8):
        client.lost(client.fields("Open")[-1][0], reason="refused", is_reachable=False)
        client.to_deadline()
    assert [one[3] for one in client.fields("Closed")] == [0.5, 1, 2, 4, 8, 16, 20, 20]


@scenario(transports=("websocket",), draws=(0.25, 0.75))
def waits_are_drawn_from_zero_on(client: Recorder) -> None:
    client.start()
    client.lost(1, is_reachable=False)
    client.to_deadline()
    client.lost(2, is_reachable=False)
    assert [one[3] for one in client.fields("Closed")] == [0.125, 0.75]


@scenario()
def a_connection_that_lasted_starts_the_counting_afresh(client: Recorder) -> None:
    client.start()
    for _ in range(3):
        client.lost(client.fields("Open")[-1][0], is_reachable=False)
        client.to_deadline()
    client.received(4, welcome(4))
    client.after(10)
    client.lost(4)
    assert client.fields("Closed")[-1][3] == 0.25


@scenario()
def a_connection_that_lasted_from_time_zero_on_does_so_too(client: Recorder) -> None:
    connect(client)
    client.after(10)
    client.lost(1)
    client.to_deadline()
    client.lost(2, is_reachable=False)
    assert [one[3] for one in client.fields("Closed")] == [0.25, 0.5]


@scenario()
def a_connection_that_did_not_last_does_not(client: Recorder) -> None:
    client.start()
    client.lost(1, is_reachable=False)
    client.to_deadline()
    client.received(2, welcome(2))
    client.after(9)
    client.lost(2)
    assert client.fields("Closed")[-1][3] == 0.5


@scenario()
def the_server_says_when_to_come_back(client: Recorder) -> None:
    connect(client)
    client.lost(1, 1012, "shutdown; retry_after_ms=7500")
    client.hint("wake")
    client.hint("network_up")
    assert client.machine.next_deadline() == 7.5
    client.after(7.5)
    assert len(client.fields("Open")) == 2


@scenario(transports=("websocket", "sse"))
def the_next_transport_waits_as_long_as_the_server_said(client: Recorder) -> None:
    client.start()
    client.lost(1, reason="HTTP 502", after_s=3)
    assert client.fields("Closed")[-1][3] == 3
    client.after(3)
    assert client.fields("Open")[-1][1] == "sse"


@scenario()
def later_is_not_before_five_seconds(client: Recorder) -> None:
    connect(client)
    client.lost(1, 3013, "too many requests")
    assert client.fields("Closed")[-1][3] == 5


@scenario(transports=("websocket",))
def an_attempt_that_is_not_answered_is_given_up(client: Recorder) -> None:
    client.start()
    client.to_deadline()
    assert client.now == 4
    assert client.fields("Closed")[-1][1] == "no answer in time"
    client.to_deadline()
    client.to_deadline()
    assert client.now == 4.25 + 8  # a ladder that has failed has more time


@scenario(attempt_burst=2, attempt_rate_per_s=0.1)
def no_mix_of_triggers_makes_more_attempts_than_the_bucket_has(client: Recorder) -> None:
    client.start()
    client.lost(1, is_reachable=False)
    client.hint("network_up")
    client.lost(2, is_reachable=False)
    for _ in range(5):
        client.hint("wake")
        client.hint("network_up")
        client.after(1)
    assert len(client.fields("Open")) == 2
    client.after(6)
    assert len(client.fields("Open")) == 3


@scenario(transports=("websocket", "sse", "longpoll", "poll"), attempt_burst=3)
def going_down_the_ladder_takes_from_the_bucket_too(client: Recorder) -> None:
    client.start()
    for _ in range(3):
        client.lost(client.fields("Open")[-1][0], reason="HTTP 404")
    assert len(client.fields("Open")) == 3
    client.to_deadline()
    assert client.fields("Open")[-1][1] == "poll"
