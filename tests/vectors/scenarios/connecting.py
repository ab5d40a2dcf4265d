"""The first connection."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import connect, placed, pub, scenario, welcome


@scenario(data={"room": 1}, token="t")
def the_first_words_are_connect_and_what_is_followed(client: Recorder) -> None:
    client.subscribe("a")
    client.subscribe("b", ["e", 7], token="for b")
    client.subscribe("c", "earliest")
    client.start()
    (frame,) = [output[2] for output in client.fields("Open")]
    assert [next(key for key in one if key != "id") for one in frame] == [
        "connect",
        "subscribe",
        "subscribe",
        "subscribe",
    ]
    client.received(1, welcome(), placed(2, 3), placed(3, after=7, pubs=[8, 9]), placed(4, pubs=[1]))
    assert client.fields("Subscribed") == [["a", "e", 3, False], ["b", "e", 7, True], ["c", "e", 0, False]]
    client.received(1, pub(4), pub(10, "b"), pub(2, "c"))
    assert len(client.fields("Delivered")) == 6


@scenario()
def a_channel_that_is_followed_later_is_asked_for_at_once(client: Recorder) -> None:
    connect(client)
    client.subscribe("a")
    assert client.kinds() == ["Send"]
    client.received(1, placed(2, 5))
    client.received(1, pub(6))
    assert client.fields("Delivered")[-1][:3] == ["a", "e", 6]


@scenario(tick_s=1)
def clocks_are_looked_at_each_second(client: Recorder) -> None:
    connect(client)
    client.after(3)
    assert client.now == 3
    assert not any(step["outputs"] for step in client.steps[2:])


@scenario()
def starting_twice_is_starting_once(client: Recorder) -> None:
    client.start()
    client.start()
    assert len(client.fields("Open")) == 1


@scenario(first_transport="longpoll")
def it_begins_where_it_is_told(client: Recorder) -> None:
    client.start()
    assert client.fields("Open")[0][1] == "longpoll"


@scenario()
def what_was_unsubscribed_while_connecting_is_ended_there(client: Recorder) -> None:
    client.subscribe("a")
    client.start()
    client.unsubscribe("a")
    client.received(1, welcome())
    assert client.fields("Send")[0][1] == [{"id": 3, "unsubscribe": {"channel": "a"}}]
    client.received(1, placed(2))
    assert not client.fields("Subscribed")
