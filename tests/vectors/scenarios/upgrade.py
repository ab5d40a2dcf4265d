"""A better transport is tried while the lesser goes on."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import id_of, placed, poll_online, scenario, welcome


@scenario(transports=("longpoll", "poll"), first_transport="poll", poll_interval_s=2, upgrade_after_s=3)
def polls_go_on_while_a_better_transport_is_tried(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.after(2)
    client.polled(1, placed(id_of(client, "subscribe"), after=3))
    client.after(1)
    assert client.fields("Open")[-1][1] == "longpoll"
    client.after(1)
    assert client.fields("Poll")[-1][0] == 1


def _trying(client: Recorder) -> None:
    """In use is a long poll, and a WebSocket is being tried: connection 2."""
    poll_online(client, placed(1, 3))
    client.after(10)
    assert client.fields("Open")[-1][:2] == [2, "websocket"]


@scenario(first_transport="longpoll")
def what_was_tried_in_vain_leaves_what_is_in_use_alone(client: Recorder) -> None:
    _trying(client)
    client.lost(2, reason="HTTP 502")
    assert client.kinds() == ["Close", "Note"]
    client.after(20)
    assert client.fields("Open")[-1][:2] == [3, "sse"]  # each above in turn


@scenario(first_transport="longpoll")
def a_better_transport_takes_over_from_where_the_lesser_stood(client: Recorder) -> None:
    _trying(client)
    client.polled(1, placed(id_of(client, "subscribe", on=1), after=3, pubs=[4]))
    client.received(
        2, welcome(id_of(client, "connect")), placed(id_of(client, "connect") + 1, after=3, pubs=[4, 5])
    )
    assert [one[2] for one in client.fields("Delivered")] == [4, 5]
    assert client.fields("Close") == [[1]]
    client.polled(1)
    assert not client.last


@scenario(first_transport="longpoll")
def what_is_in_use_is_lost_while_a_better_is_tried(client: Recorder) -> None:
    _trying(client)
    client.lost(1)
    assert client.state() == "connecting"
    assert client.fields("Closed") == [[1006, "", True, 0]]
    client.received(2, welcome(id_of(client, "connect")), placed(id_of(client, "connect") + 1, after=3))
    assert client.machine.transport == "websocket"


@scenario(first_transport="longpoll")
def what_was_tried_is_not_held_against_what_is_lost_by_then(client: Recorder) -> None:
    _trying(client)
    client.polled(1, placed(id_of(client, "subscribe", on=1), after=3))
    client.lost(1, 3004, "fault")
    client.to_deadline()  # no answer in time
    client.to_deadline()
    assert client.fields("Open")[-1][1] == "longpoll"


@scenario(first_transport="longpoll")
def a_server_that_says_later_to_what_is_tried_is_heeded(client: Recorder) -> None:
    _trying(client)
    client.lost(2, 1013, "full; retry_after_ms=60000")
    client.after(5)
    client.lost(1)
    assert client.fields("Closed") == [[1006, "", True, 55]]


@scenario(first_transport="longpoll")
def a_better_transport_is_tried_again_when_the_server_said(client: Recorder) -> None:
    _trying(client)
    client.lost(2, after_s=100)
    assert client.machine._deadlines["upgrade"] == 110


@scenario(first_transport="longpoll", token="t")
def a_token_that_a_better_transport_refuses_is_still_good_for_the_lesser(client: Recorder) -> None:
    _trying(client)
    client.lost(2, 3500, "invalid token")
    client.lost(1)
    client.to_deadline()
    (hello,) = [one for one in client.fields("Poll")[-1][1] if "connect" in one]
    assert hello["connect"]["token"] == "t"


@scenario(first_transport="longpoll")
def a_better_transport_that_comes_from_before_what_was_delivered_meanwhile_is_no_gap(
    client: Recorder,
) -> None:
    _trying(client)
    hello = id_of(client, "connect")
    client.polled(1, placed(id_of(client, "subscribe", on=1), after=3, pubs=[4, 5, 6]))
    client.received(2, welcome(hello), placed(hello + 1, 4, lost=True, pubs=[5, 6, 7]))
    assert [one[2] for one in client.fields("Delivered")] == [4, 5, 6, 7]
    assert not client.fields("Gap")


@scenario(first_transport="longpoll")
def a_channel_that_the_lesser_has_begun_meanwhile_is_asked_for_from_there(client: Recorder) -> None:
    poll_online(client)
    client.after(9)
    client.after(1)
    hello = id_of(client, "connect")
    client.polled(1, placed(id_of(client, "subscribe", on=1), 3))
    client.received(2, welcome(hello), placed(hello + 1, 9))
    assert not client.fields("Gap")
    (*_, said) = client.fields("Send")[-1]
    assert [(*one.values(),)[1].get("offset") for one in said] == [None, 3]
