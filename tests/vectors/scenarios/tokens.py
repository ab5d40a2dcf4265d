"""Tokens: given at the start, or asked for."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import connect, id_of, placed, poll_online, refused, scenario, welcome


@scenario(has_tokens=True)
def a_token_is_asked_for_and_shown(client: Recorder) -> None:
    client.start()
    assert client.kinds() == ["StateChanged", "AskToken"]
    client.after(3)
    client.token("t")
    assert client.fields("Open")[0][2][0]["connect"]["token"] == "t"
    assert client.machine.next_deadline() == 7


@scenario(has_tokens=True, token="t")
def a_token_to_begin_with_is_shown_first(client: Recorder) -> None:
    client.start()
    assert client.fields("Open")[0][2][0]["connect"]["token"] == "t"


@scenario(has_tokens=True)
def without_a_token_it_tries_again_later(client: Recorder) -> None:
    client.start()
    client.no_token("not logged in")
    assert client.last[-1] == ["Closed", 0, "no token: not logged in", False, 0.25]
    client.to_deadline()
    assert client.kinds() == ["StateChanged", "AskToken"]
    client.to_deadline()
    assert client.last[-1][:3] == ["Closed", 0, "no token: the application gave none in time"]


@scenario(has_tokens=True, draws=(1.0,))
def a_token_that_is_refused_again_and_again_is_asked_for_less_and_less(client: Recorder) -> None:
    client.start()
    for number in range(4):
        client.token(f"t{number}")
        client.received(client.fields("Open")[-1][0], refused(id_of(client, "connect"), 109, "token expired"))
        client.to_deadline()
        assert client.kinds() == ["StateChanged", "AskToken"]
    assert [one[3] for one in client.fields("Closed")] == [0.5, 1, 2, 4]


@scenario(token="t")
def a_token_that_cannot_be_replaced_is_the_end(client: Recorder) -> None:
    client.start()
    client.received(1, refused(1, 101, "unauthorized"))
    assert client.last[-1] == ["Closed", 101, "unauthorized", False, -1]


@scenario(has_tokens=True, token="t")
def a_connection_that_expired_comes_back_with_a_new_token(client: Recorder) -> None:
    connect(client)
    client.lost(1, 3005, "connection expired")
    client.to_deadline()
    client.token("new")
    assert client.fields("Open")[-1][2][0]["connect"]["token"] == "new"


@scenario(has_tokens=True, token="t", ping_interval_s=1000)
def a_new_token_is_shown_before_the_old_one_expires(client: Recorder) -> None:
    connect(client, expires=True, ttl=100, ping=0)
    client.to_deadline()
    assert (client.now, client.last) == (80, [["AskToken"]])
    client.token("new")
    assert client.last == [["Send", 1, [{"id": 2, "refresh": {"token": "new"}}]]]
    client.received(1, {"id": 2, "refresh": {"expires": True, "ttl": 50}})
    client.to_deadline()
    assert (client.now, client.last) == (120, [["AskToken"]])


@scenario(has_tokens=True, token="t", ping_interval_s=1000)
def no_new_token_is_asked_for_again_while_the_old_one_lasts(client: Recorder) -> None:
    connect(client, expires=True, ttl=100, ping=0)
    client.to_deadline()
    client.no_token()
    client.to_deadline()
    assert (client.now, client.last) == (85, [["AskToken"]])


@scenario(has_tokens=True, token="t", ping_interval_s=1000, draws=(0.0, 1.0))
def those_who_came_together_ask_at_different_times(client: Recorder) -> None:
    connect(client, expires=True, ttl=100, ping=0)
    client.to_deadline()
    assert (client.now, client.last) == (70, [["AskToken"]])
    client.token("new")
    client.received(1, {"id": 2, "refresh": {"expires": True, "ttl": 100}})
    client.to_deadline()
    assert (client.now, client.last) == (160, [["AskToken"]])


@scenario(has_tokens=True, token="t", ping_interval_s=1000)
def a_server_may_let_us_stay_longer_than_the_token(client: Recorder) -> None:
    connect(client, expires=True, ttl=100, ping=0)
    client.after(50)
    client.received(1, {"push": {"refresh": {"expires": True, "ttl": 200}}})
    client.to_deadline()
    assert (client.now, client.last) == (210, [["AskToken"]])


@scenario(has_tokens=True, token="t", ping_interval_s=1000)
def a_server_may_let_us_stay_for_ever(client: Recorder) -> None:
    connect(client, expires=True, ttl=100, ping=0)
    client.received(1, {"push": {"refresh": {}}})
    client.to_deadline()
    assert client.now > 500


@scenario(has_tokens=True, token="t", ping_interval_s=1000)
def a_server_that_wants_another_token_is_given_one(client: Recorder) -> None:
    connect(client, ping=0)
    client.received(1, {"push": {"refresh": {"expires": True, "ttl": 0}}})
    client.to_deadline()
    assert (client.now, client.last) == (1, [["AskToken"]])


@scenario(has_tokens=True, token="t")
def a_connection_that_is_only_tried_says_nothing_about_staying(client: Recorder) -> None:
    client.start()
    client.received(1, {"push": {"refresh": {"expires": True, "ttl": 0}}})
    client.after(3)
    assert not client.fields("AskToken")


@scenario(has_tokens=True, token="t")
def a_server_that_says_that_each_token_is_over_is_not_asked_without_a_pause(client: Recorder) -> None:
    connect(client, expires=True, ttl=0.001)
    for second in (1, 2, 3):
        client.to_deadline()
        assert (client.now, client.last) == (second, [["AskToken"]])
        client.token("new")
        client.received(1, {"id": id_of(client, "refresh"), "refresh": {"expires": True, "ttl": 0.001}})


@scenario(has_tokens=True, token="t")
def a_new_token_that_is_refused_is_followed_by_another(client: Recorder) -> None:
    connect(client)
    client.token("new")
    client.received(1, refused(2, 109, "token expired"))
    client.to_deadline()
    assert client.kinds() == ["StateChanged", "AskToken"]


@scenario(has_tokens=True, token="t")
def a_new_token_that_is_refused_for_now_leaves_the_connection_alone(client: Recorder) -> None:
    connect(client)
    client.token("new")
    client.received(1, refused(2, 100, "internal", temporary=True))
    assert not client.last
    client.to_deadline()
    assert (client.now, client.last) == (5, [["AskToken"]])


@scenario(has_tokens=True, token="t")
def a_token_that_comes_while_connecting_is_for_the_next_time(client: Recorder) -> None:
    client.start()
    client.token("new")
    assert not client.last
    client.lost(1, is_reachable=False)
    client.to_deadline()
    assert client.fields("Open")[-1][2][0]["connect"]["token"] == "new"


@scenario(has_tokens=True, token="t")
def a_connection_lost_while_a_token_is_asked_for(client: Recorder) -> None:
    connect(client, expires=True, ttl=10)
    client.to_deadline()
    client.lost(1, 3005, "connection expired")
    client.to_deadline()
    assert client.kinds() == ["StateChanged"]  # it has been asked already
    client.token("new")
    assert client.kinds() == ["Open"]


@scenario(has_tokens=True, token="t", transports=("longpoll",), poll_wait_s=50)
def polls_show_the_new_token_themselves(client: Recorder) -> None:
    poll_online(client, placed(1, 3), expires=True, ttl=20)
    client.to_deadline()
    assert (client.now, client.last) == (16, [["AskToken"]])
    client.token("new")
    assert not client.last
    client.to_deadline()
    assert (client.now, client.last) == (32, [["AskToken"]])


@scenario(has_tokens=True, token="t", first_transport="sse")
def a_better_transport_waits_for_a_token(client: Recorder) -> None:
    connect(client, ping=1000)
    client.after(10)
    client.lost(2, 3500, "invalid token")
    client.to_deadline()
    assert (client.now, client.last) == (30, [["AskToken"]])
    client.token("new")
    client.sent(1)
    client.to_deadline()
    assert client.now == 70
    assert client.fields("Open", last=1)[0][2][0]["connect"]["token"] == "new"


@scenario(has_tokens=True, token="t")
def later_said_by_the_server_holds_for_tokens_too(client: Recorder) -> None:
    client.start()
    client.received(1, refused(1, 111, "too many; retry_after_ms=9000", temporary=True))
    assert client.fields("Closed")[0][3] == 9
    client.hint("wake")
    client.to_deadline()
    assert client.now == 9
    client.received(2, welcome(2))
