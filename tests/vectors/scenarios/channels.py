"""Channels are subscribed, paused and unsubscribed at any moment."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import connect, placed, pub, scenario, welcome


@scenario()
def a_late_answer_to_what_was_asked_before_is_not_heard(client: Recorder) -> None:
    connect(client)
    client.subscribe("a", ["e", 3])
    client.unsubscribe("a")
    client.subscribe("a", "earliest")
    client.received(1, placed(2, after=3, pubs=[4]))
    assert not client.last
    client.received(1, {"id": 3, "unsubscribe": {}}, placed(4, pubs=[1, 2]))
    assert [one[2] for one in client.fields("Delivered")] == [1, 2]


@scenario()
def what_was_begun_anew_while_connecting_is_asked_anew(client: Recorder) -> None:
    client.subscribe("a")
    client.start()
    client.unsubscribe("a")
    client.subscribe("a", "earliest")
    client.received(1, welcome(), placed(2, 7))
    assert [next(key for key in one if key != "id") for one in client.fields("Send")[-1][1]] == [
        "unsubscribe",
        "subscribe",
    ]
    client.received(1, {"id": 3, "unsubscribe": {}}, placed(4, pubs=[1]))
    assert client.fields("Delivered")[0][:3] == ["a", "e", 1]


@scenario()
def what_was_ended_while_connecting_can_be_followed_again_before_the_answer(client: Recorder) -> None:
    client.subscribe("a")
    client.start()
    client.unsubscribe("a")
    client.received(1, welcome())
    client.subscribe("a")
    client.received(1, placed(2, 7))
    assert not client.fields("Subscribed")
    client.received(1, {"id": 3, "unsubscribe": {}}, placed(4, 8))
    client.received(1, pub(9))
    assert client.fields("Delivered")[0][:3] == ["a", "e", 9]


@scenario()
def a_pause_loses_nothing(client: Recorder) -> None:
    connect(client)
    client.subscribe("a")
    client.received(1, placed(2, 3))
    client.pause("a")
    client.pause("a")
    client.received(1, pub(4))
    assert not client.last
    client.resume("a")
    client.resume("a")
    client.received(1, placed(4, after=3, pubs=[4, 5]))
    assert [one[2] for one in client.fields("Delivered")] == [4, 5]


@scenario()
def a_pause_while_the_subscribe_is_on_the_way(client: Recorder) -> None:
    connect(client)
    client.subscribe("a", ["e", 3])
    client.pause("a")
    client.received(1, placed(2, after=3, pubs=[4]))
    assert not client.last
    client.resume("a")
    client.received(1, placed(4, after=3, pubs=[4]))
    assert [one[2] for one in client.fields("Delivered")] == [4]


@scenario()
def a_pause_while_connecting(client: Recorder) -> None:
    client.subscribe("a", ["e", 3])
    client.start()
    client.pause("a")
    client.received(1, welcome(), placed(2, after=3, pubs=[4]))
    assert client.fields("Send")[0][1] == [{"id": 3, "unsubscribe": {"channel": "a"}}]
    client.resume("a")
    client.received(1, {"id": 3, "unsubscribe": {}}, placed(4, after=3, pubs=[4]))
    assert [one[2] for one in client.fields("Delivered")] == [4]


@scenario()
def what_is_paused_is_not_asked_for_on_a_new_connection(client: Recorder) -> None:
    connect(client)
    client.subscribe("a")
    client.received(1, placed(2, 3))
    client.pause("a")
    client.lost(1)
    client.to_deadline()
    assert [list(one) for one in client.fields("Open")[-1][2]] == [["id", "connect"]]
    client.resume("a")
    client.received(2, welcome(4))
    assert client.fields("Send")[-1][1][0]["subscribe"]["offset"] == 3


@scenario()
def following_a_channel_anew_ends_what_was(client: Recorder) -> None:
    connect(client)
    client.subscribe("a")
    client.received(1, placed(2, 3))
    client.subscribe("a", "earliest")
    assert client.fields("Send", last=1)[0][1] == [{"id": 3, "unsubscribe": {"channel": "a"}}]


@scenario()
def what_the_server_ends_for_good_is_ended(client: Recorder) -> None:
    connect(client)
    client.subscribe("a")
    client.received(1, placed(2, 3))
    client.received(
        1, {"push": {"channel": "a", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}}
    )
    assert client.last == [["Unsubscribed", "a", 2000, "server unsubscribe"]]


@scenario()
def what_the_server_ends_for_now_is_asked_for_again(client: Recorder) -> None:
    connect(client)
    client.subscribe("a")
    client.received(1, placed(2, 3))
    client.received(
        1, {"push": {"channel": "a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
    )
    client.to_deadline()
    assert client.now == 0.25
    assert client.fields("Send")[-1][1][0]["subscribe"]["offset"] == 3


@scenario()
def a_refused_channel_is_ended(client: Recorder) -> None:
    connect(client)
    client.subscribe("a")
    client.received(1, {"id": 2, "error": {"code": 103, "message": "permission denied"}})
    assert client.last == [["Unsubscribed", "a", 103, "permission denied"]]


@scenario(draws=(1.0,))
def a_channel_refused_for_now_is_asked_for_less_and_less(client: Recorder) -> None:
    connect(client)
    client.subscribe("a")
    waits = []
    for _ in range(4):
        client.received(1, {"id": client.machine.traffic._ids, "error": {"code": 100, "temporary": True}})
        waits.append(client.machine.next_deadline() or 0)
        client.to_deadline()
    assert [after - before for before, after in zip([0.0, *waits], waits, strict=False)] == [0.5, 1, 2, 4]


@scenario()
def a_channel_refused_for_now_is_not_asked_for_before_the_server_said(client: Recorder) -> None:
    connect(client)
    client.subscribe("a")
    client.received(
        1, {"id": 2, "error": {"code": 100, "message": "busy; retry_after_ms=20000", "temporary": True}}
    )
    client.subscribe("b")
    assert [one["subscribe"]["channel"] for one in client.fields("Send")[-1][1]] == ["b"]
    client.lost(1)
    client.to_deadline()
    assert [one["subscribe"]["channel"] for one in client.fields("Open")[-1][2][1:]] == ["b"]
    client.received(2, welcome(4, ping=60), placed(5))
    client.after(20)
    assert client.fields("Send")[-1][1][0]["subscribe"]["channel"] == "a"


@scenario(draws=(0.0,))
def a_channel_may_be_asked_for_again_at_once_where_chance_says_so(client: Recorder) -> None:
    connect(client)
    client.subscribe("a")
    client.received(1, {"id": 2, "error": {"code": 100, "temporary": True}})
    client.to_deadline()
    assert client.kinds() == ["Send"]
