"""Server-side subscriptions."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import connect, id_of, placed, poll_online, pub, scenario, welcome

_NEWS = {"news": {"epoch": "e", "offset": 3}}


@scenario()
def what_the_server_makes_us_follow_is_delivered_and_recovered(client: Recorder) -> None:
    connect(client, subs=_NEWS)
    client.received(1, pub(4, "news"))
    assert client.fields("Subscribed") == [["news", "e", 3, False]]
    client.lost(1)
    client.to_deadline()
    (hello,) = client.fields("Open")[-1][2]
    assert hello["connect"]["subs"]["news"]["offset"] == 4
    again = {
        "epoch": "e",
        "offset": 4,
        "was_recovering": True,
        "recovered": True,
        "publications": [{"offset": 5, "data": 5}],
    }
    client.received(2, welcome(2, subs={"news": again}))
    assert [one[2] for one in client.fields("Delivered")] == [4, 5]


@scenario()
def what_the_server_does_not_make_us_follow_again_is_ended(client: Recorder) -> None:
    connect(client, subs=_NEWS)
    client.lost(1)
    client.to_deadline()
    client.received(2, welcome(2))
    assert client.fields("Unsubscribed") == [["news", 0, "the server does not subscribe us any more"]]


@scenario()
def the_server_makes_us_follow_one_more(client: Recorder) -> None:
    connect(client)
    client.received(
        1, {"push": {"channel": "news", "subscribe": {"epoch": "e", "offset": 3}}}, pub(4, "news")
    )
    assert client.kinds() == ["Subscribed", "Delivered"]
    client.received(1, {"push": {"channel": "news", "unsubscribe": {"code": 2500, "reason": "moved"}}})
    assert client.kinds() == ["Unsubscribed"]


@scenario()
def a_hole_there_takes_a_new_connection(client: Recorder) -> None:
    connect(client, subs=_NEWS)
    client.received(1, pub(6, "news"))
    assert client.fields("Closed") == [[3010, "something was left out", True, 0.25]]


@scenario()
def the_server_may_have_made_what_we_ask_for(client: Recorder) -> None:
    client.subscribe("news")
    client.start()
    client.received(
        1, welcome(1, subs=_NEWS), {"id": 2, "error": {"code": 105, "message": "already subscribed"}}
    )
    client.received(1, pub(4, "news"))
    assert client.fields("Delivered")[0][2] == 4
    assert not client.fields("Unsubscribed")


@scenario()
def what_we_want_too_goes_on_when_the_server_does_not_make_it_any_more(client: Recorder) -> None:
    client.subscribe("news")
    client.start()
    client.received(
        1, welcome(1, subs=_NEWS), {"id": 2, "error": {"code": 105, "message": "already subscribed"}}
    )
    client.lost(1)
    client.to_deadline()
    client.received(2, welcome(3))
    assert client.fields("Send")[-1][1][0]["subscribe"]["offset"] == 3


@scenario()
def what_the_server_has_made_need_not_be_asked_for(client: Recorder) -> None:
    connect(client, subs=_NEWS)
    client.subscribe("news", "earliest")
    assert client.last == [["Subscribed", "news", "e", 3, False]]


@scenario()
def what_the_server_has_made_can_be_paused(client: Recorder) -> None:
    connect(client, subs=_NEWS)
    client.pause("news")
    assert client.last == [["Send", 1, [{"id": 2, "unsubscribe": {"channel": "news"}}]]]
    client.received(1, pub(4, "news"))
    client.resume("news")
    client.received(1, placed(3, after=3, pubs=[4]))
    assert [one[2] for one in client.fields("Delivered")] == [4]


@scenario()
def what_is_paused_stays_so_though_the_server_makes_it_again(client: Recorder) -> None:
    connect(client, subs=_NEWS)
    client.pause("news")
    client.lost(1)
    client.to_deadline()
    client.received(
        2, welcome(3, subs={"news": {"epoch": "e", "offset": 3, "was_recovering": True, "recovered": True}})
    )
    assert client.kinds() == ["StateChanged", "Send"]
    client.received(2, pub(4, "news"))
    assert not client.last


@scenario(transports=("longpoll",))
def polls_go_on_with_them(client: Recorder) -> None:
    poll_online(client, placed(1, 3), subs=_NEWS)
    again = {
        "epoch": "e",
        "offset": 3,
        "was_recovering": True,
        "recovered": True,
        "publications": [{"offset": 4, "data": 4}],
    }
    client.polled(
        1,
        welcome(id_of(client, "connect"), subs={"news": again}),
        placed(id_of(client, "subscribe"), after=3),
    )
    assert client.fields("Delivered") == [["news", "e", 4, 4, "", "", ""]]
    client.pause("news")
    assert not client.last
    client.resume("news")
    client.to_deadline()
    assert client.kinds() == ["Poll"]


@scenario(transports=("longpoll",))
def polls_say_connect_for_those_without_a_position_too(client: Recorder) -> None:
    poll_online(client, placed(1, 3), subs={"news": {}})
    assert id_of(client, "connect") > 2
