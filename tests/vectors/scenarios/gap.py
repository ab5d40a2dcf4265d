"""Gaps are reported, and nothing is delivered twice."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import connect, id_of, placed, poll_online, pub, scenario, welcome


def _following(client: Recorder, **settings: object) -> None:
    """Channel a, at 3."""
    connect(client)
    client.subscribe("a")
    client.received(1, placed(2, 3))


def _again(client: Recorder) -> None:
    client.lost(1)
    client.to_deadline()


@scenario()
def a_position_that_cannot_be_continued_is_a_gap(client: Recorder) -> None:
    _following(client)
    _again(client)
    client.received(2, welcome(3), placed(4, 9, lost=True, pubs=[10]))
    assert client.fields("Gap") == [["a", "e", 3, "e", 9]]
    assert client.fields("Delivered")[-1][2] == 10


@scenario()
def a_stream_that_began_anew_is_a_gap(client: Recorder) -> None:
    _following(client)
    _again(client)
    client.received(2, welcome(3), placed(4, 0, epoch="f", lost=True, pubs=[1]))
    assert client.fields("Gap") == [["a", "e", 3, "f", 0]]
    assert client.fields("Delivered")[-1][1:3] == ["f", 1]


@scenario()
def a_server_that_cannot_recover_but_has_nothing_new_leaves_no_gap(client: Recorder) -> None:
    _following(client)
    _again(client)
    client.received(2, welcome(3), placed(4, 3))
    assert not client.fields("Gap")
    assert client.fields("Subscribed")[-1] == ["a", "e", 3, False]


@scenario()
def since_a_position_that_is_gone_is_a_gap(client: Recorder) -> None:
    client.subscribe("a", ["d", 5])
    connect(client, placed(2, 0, lost=True, pubs=[1]))
    assert client.fields("Gap") == [["a", "d", 5, "e", 0]]


@scenario()
def from_the_earliest_on_there_is_no_gap(client: Recorder) -> None:
    client.subscribe("a", "earliest")
    connect(client, placed(2, 499, lost=True, pubs=[500]))
    assert not client.fields("Gap")
    assert client.fields("Delivered")[0][2] == 500


@scenario()
def what_was_delivered_is_not_delivered_again(client: Recorder) -> None:
    _following(client)
    client.received(1, pub(4), pub(4), pub(3), pub(5))
    assert [one[2] for one in client.fields("Delivered")] == [4, 5]


@scenario()
def a_hole_is_not_delivered_over_but_asked_for(client: Recorder) -> None:
    _following(client)
    client.received(1, pub(4), pub(6), pub(7))
    assert [one[2] for one in client.fields("Delivered")] == [4]
    client.to_deadline()
    client.received(1, placed(id_of(client, "subscribe"), after=4, pubs=[5, 6, 7]))
    client.received(1, pub(8))
    assert [one[2] for one in client.fields("Delivered")] == [4, 5, 6, 7, 8]


@scenario(draws=(1.0,))
def a_server_that_always_leaves_a_hole_is_asked_less_and_less(client: Recorder) -> None:
    _following(client)
    client.received(1, pub(5))
    for at in range(3, 7):
        client.to_deadline()
        client.received(1, placed(id_of(client, "subscribe"), after=at, pubs=[at + 1, at + 3]))
    assert client.now == 0.5 + 1 + 2 + 4


@scenario()
def a_channel_in_cache_mode_begins_with_its_newest_and_what_that_skips_is_told(client: Recorder) -> None:
    _following(client)
    _again(client)
    client.received(2, welcome(3), placed(4, after=3, pubs=[9]))
    assert client.fields("Gap") == [["a", "e", 3, "e", 8]]
    assert [one[2] for one in client.fields("Delivered")] == [9]


@scenario(transports=("longpoll",))
def a_server_that_loses_its_place_each_time_is_not_asked_without_a_pause(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    for epoch in ("f", "e", "f"):
        at = client.now
        client.polled(1, placed(id_of(client, "subscribe"), 3, epoch=epoch, lost=True))
        client.to_deadline()
        assert client.now == at + 1
    assert len(client.fields("Gap")) == 3


@scenario()
def a_channel_without_positions_just_delivers(client: Recorder) -> None:
    connect(client)
    client.subscribe("a")
    client.received(1, placed(2, epoch=""))
    client.received(
        1, {"push": {"channel": "a", "pub": {"data": 1}}}, {"push": {"channel": "a", "pub": {"data": 2}}}
    )
    assert [one[:4] for one in client.fields("Delivered")] == [["a", "", 0, 1], ["a", "", 0, 2]]
    _again(client)
    assert "recover" not in client.fields("Open")[-1][2][1]["subscribe"]


@scenario()
def who_published_and_what_it_is_are_told(client: Recorder) -> None:
    _following(client)
    who = {"user": "u", "client": "c"}
    client.received(
        1,
        {
            "push": {
                "channel": "a",
                "pub": {"offset": 4, "data": "AA==", "tags": {"encoding": "base64"}, "info": who},
            }
        },
    )
    assert client.last == [["Delivered", "a", "e", 4, "AA==", "base64", "u", "c"]]


@scenario()
def a_message_belongs_to_no_channel(client: Recorder) -> None:
    connect(client)
    client.received(1, {"push": {"message": {"data": {"hello": "you"}}}})
    assert client.last == [["Message", {"hello": "you"}]]
