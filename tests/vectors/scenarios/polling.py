"""Transports that poll."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import id_of, placed, poll_online, pub, refused, scenario, welcome


def _asked(client: Recorder) -> list[str]:
    """The channels that the last poll asked for."""
    return [one["subscribe"]["channel"] for one in client.fields("Poll")[-1][1] if "subscribe" in one]


def _nothing(client: Recorder) -> None:
    client.polled(1, placed(id_of(client, "subscribe", "a"), after=3))


@scenario(transports=("longpoll",))
def a_long_poll_is_held_once_each_channel_has_its_place(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    assert [one[2] for one in client.fields("Poll")] == [0, 25]
    client.after(25)
    _nothing(client)
    assert client.fields("Poll", last=1)[0][2] == 25


@scenario(transports=("longpoll",))
def news_comes_as_pushes_after_the_replies(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.after(7)
    client.polled(1, placed(id_of(client, "subscribe"), after=3), pub(4), pub(5))
    assert [one[2] for one in client.fields("Delivered")] == [4, 5]
    assert client.fields("Poll", last=1)[0][1][0]["subscribe"]["offset"] == 5


@scenario(transports=("longpoll",))
def a_poll_with_nothing_to_follow_is_a_ping(client: Recorder) -> None:
    client.start()
    client.polled(1, welcome(1, ping=0))
    assert list(client.fields("Poll")[-1][1][0]) == ["id", "ping"]
    assert client.fields("Poll")[-1][2] == 25


@scenario(transports=("longpoll",))
def a_server_that_does_not_hold_is_asked_each_second(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    for second in (1, 2):
        _nothing(client)
        client.to_deadline()
        assert client.now == second
        assert client.kinds() == ["Poll"]


@scenario(transports=("poll",), poll_interval_s=2)
def polls_have_their_interval(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.to_deadline()
    assert client.now == 2
    client.polled(1, placed(id_of(client, "subscribe"), after=3, pubs=[4]))
    client.to_deadline()
    assert client.now == 4


@scenario(transports=("poll",), poll_interval_s=2)
def a_full_page_is_followed_by_the_next_at_once(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.to_deadline()
    client.polled(1, placed(id_of(client, "subscribe"), after=3, pubs=range(4, 304)))
    assert client.fields("Poll", last=1)[0][1][0]["subscribe"]["offset"] == 303


@scenario(transports=("longpoll",))
def a_new_channel_takes_the_place_of_the_poll_that_is_held(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.after(5)
    client.subscribe("b")
    client.subscribe("c")
    client.to_deadline()
    assert client.now == 5
    assert (_asked(client), client.fields("Poll")[-1][2]) == (["a", "b", "c"], 0)
    first = id_of(client, "subscribe", "a")
    client.polled(1, placed(first, after=3), placed(first + 1, 1), placed(first + 2, 1))
    assert client.fields("Poll")[-1][2] == 25


@scenario(transports=("longpoll",))
def a_channel_that_is_followed_while_connecting_is_asked_for_next(client: Recorder) -> None:
    client.start()
    client.subscribe("b")
    client.polled(1, welcome(1, ping=0))
    client.to_deadline()
    assert client.now == 0
    assert _asked(client) == ["b"]


@scenario(transports=("longpoll",))
def what_the_poll_before_asked_is_forgotten(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    before = id_of(client, "subscribe")
    client.hint("wake")
    client.received(1, placed(before, after=3, pubs=[4]))
    assert not client.last
    assert len(client.machine.current.waiting if client.machine.current else ()) == 1


@scenario(transports=("longpoll",))
def one_channel_that_is_refused_for_now_does_not_hurry_the_others(client: Recorder) -> None:
    client.subscribe("a")
    client.subscribe("b")
    client.start()
    busy = refused(2, 100, "busy; retry_after_ms=30000", temporary=True)
    client.polled(1, welcome(3, ping=0), placed(1, 3), busy)
    assert (_asked(client), client.fields("Poll")[-1][2]) == (["a"], 25)
    client.after(25)
    _nothing(client)
    client.after(5)
    assert (_asked(client), client.fields("Poll")[-1][2]) == (["a", "b"], 0)


@scenario(transports=("longpoll",))
def one_channel_that_is_refused_is_ended_and_the_others_go_on(client: Recorder) -> None:
    client.subscribe("a")
    client.subscribe("b")
    client.start()
    client.polled(1, welcome(3, ping=0), placed(1, 3), refused(2, 103, "permission denied"))
    assert client.fields("Unsubscribed") == [["b", 103, "permission denied"]]
    assert _asked(client) == ["a"]


@scenario(transports=("longpoll",))
def a_channel_that_is_paused_is_not_polled_for(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.pause("a")
    client.polled(1, placed(id_of(client, "subscribe"), after=3), pub(4))
    assert not client.fields("Delivered")
    client.to_deadline()
    assert _asked(client) == []
    client.resume("a")
    client.to_deadline()
    assert _asked(client) == ["a"]


@scenario(transports=("longpoll",))
def a_long_poll_that_is_cut_is_asked_for_shorter_from_then_on(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.after(15)
    client.lost(1, was_poll=True)
    assert client.fields("Poll", last=1)[0][2] == 0
    _nothing(client)
    assert client.fields("Note") == [["long polls are cut in between: asking for 9.0 s from now on"]]
    assert client.fields("Poll", last=1)[0][2] == 9


@scenario(transports=("longpoll",))
def a_new_connection_may_be_on_a_network_that_cuts_nothing(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.after(15)
    client.lost(1, was_poll=True)
    _nothing(client)
    client.lost(1, 1012, "shutdown", was_poll=True)
    client.to_deadline()
    client.polled(2, welcome(id_of(client, "connect"), ping=0), placed(id_of(client, "subscribe"), after=3))
    assert client.fields("Poll", last=1)[0][2] == 25


@scenario(transports=("longpoll",))
def a_server_that_is_gone_is_no_cut(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.after(15)
    client.lost(1, was_poll=True)
    client.lost(1, was_poll=True, is_reachable=False)
    assert client.state() == "waiting"
    client.to_deadline()
    client.polled(2, welcome(id_of(client, "connect"), ping=0), placed(id_of(client, "subscribe"), after=3))
    assert client.fields("Poll", last=1)[0][2] == 25


@scenario(transports=("longpoll",))
def a_poll_that_fails_at_once_or_with_a_code_is_the_end(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.after(1)
    client.lost(1, was_poll=True)
    assert client.state() == "waiting"
    client.to_deadline()
    client.polled(2, welcome(id_of(client, "connect"), ping=0), placed(id_of(client, "subscribe"), after=3))
    client.after(10)
    client.lost(2, 1012, "shutdown", was_poll=True)
    assert client.state() == "waiting"


@scenario(transports=("longpoll",))
def a_poll_that_is_not_answered_in_time_is_the_end(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.to_deadline()
    assert client.now == 35
    assert client.fields("Closed")[0][1] == "nothing was heard in time"


@scenario(transports=("longpoll",))
def an_answer_without_connect_is_not_our_server(client: Recorder) -> None:
    client.start()
    client.polled(1)
    assert client.fields("Closed")[0][1] == "an answer without a word of `connect`"


@scenario(transports=("longpoll",))
def an_answer_that_is_not_of_the_protocol_is_the_end(client: Recorder) -> None:
    client.start()
    client.received(1, "<html>")
    assert client.state() == "waiting"


@scenario(transports=("longpoll",))
def pings_are_not_for_polls(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.received(1, "{}")
    assert not client.last


@scenario(transports=("longpoll",))
def publishes_have_requests_of_their_own(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.publish(1)
    assert client.kinds() == ["Send"]
    client.received(1, {"id": id_of(client, "publish"), "publish": {"epoch": "e", "offset": 4}})
    client.sent(1)
    assert client.fields("Published") == [["key-1", "e", 4]]


@scenario(transports=("longpoll",))
def a_subscription_ended_while_held_is_not_heard(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.unsubscribe("a")
    client.polled(1, placed(id_of(client, "subscribe"), after=3), pub(4))
    assert not client.fields("Delivered")
