"""Dead connections are noticed: by silence, by a probe, after a wake-up."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import connect, id_of, placed, poll_online, scenario, welcome


@scenario()
def a_ping_is_answered(client: Recorder) -> None:
    connect(client)
    client.received(1, "{}")
    assert client.last == [["Send", 1, [{}]]]


@scenario()
def silence_of_a_ping_interval_and_the_pong_timeout_is_the_end(client: Recorder) -> None:
    connect(client, ping=7)
    client.after(5)
    client.received(1, "{}")
    client.to_deadline()
    assert client.now == 5 + 7 + 10
    assert client.fields("Closed") == [[1006, "nothing was heard in time", True, 0.25]]


@scenario(ping_interval_s=5)
def a_server_that_does_not_say_how_often_it_pings(client: Recorder) -> None:
    connect(client, ping=0)
    assert client.machine.next_deadline() == 15


@scenario()
def the_network_is_said_to_be_down_and_the_connection_proves_itself(client: Recorder) -> None:
    connect(client)
    client.hint("network_down")
    assert client.last == [["Send", 1, [{"id": 2, "ping": {}}]]]
    client.hint("network_down")
    assert not client.last
    client.received(1, {"id": 2, "ping": {}})
    client.after(4)
    assert client.state() == "online"


@scenario()
def the_network_is_down(client: Recorder) -> None:
    connect(client)
    client.hint("network_down")
    client.to_deadline()
    assert client.now == 3
    assert client.state() == "offline"
    client.to_deadline()  # a hint is no fact: attempts go on
    client.lost(2, is_reachable=False)
    assert client.state() == "offline"
    client.hint("network_up")
    assert client.kinds() == ["StateChanged", "StateChanged", "Open"]
    client.received(3, welcome(id_of(client, "connect")))
    assert client.state() == "online"


@scenario()
def the_network_goes_down_while_waiting(client: Recorder) -> None:
    client.start()
    client.lost(1, is_reachable=False)
    client.hint("network_down")
    assert client.state() == "offline"


@scenario()
def a_new_network_is_no_reason_to_wait(client: Recorder) -> None:
    client.start()
    client.lost(1, is_reachable=False)
    client.hint("network_up")
    assert client.fields("Open", last=1)


@scenario()
def an_attempt_on_the_old_network_has_no_more_time_than_a_new_one(client: Recorder) -> None:
    client.start()
    client.after(2)
    client.hint("network_up")
    assert client.machine.next_deadline() == 4


@scenario()
def an_attempt_on_the_old_network_that_fails_is_followed_by_one_on_the_new(client: Recorder) -> None:
    """Browsers end an attempt as the network changes, just after they have said that there is one."""
    client.start()
    client.hint("network_up")
    client.lost(1, is_reachable=False)
    assert client.fields("Open", last=1)
    client.lost(2, is_reachable=False)
    assert client.fields("Closed", last=1) == [[1006, "", False, 0.25]]


@scenario()
def a_hint_during_an_attempt_that_opens_is_spent(client: Recorder) -> None:
    client.start()
    client.hint("wake")
    client.received(1, welcome())
    client.lost(1)
    assert client.fields("Closed", last=1) == [[1006, "", True, 0.25]]


@scenario(transports=("websocket",))
def an_attempt_with_a_long_time_out_is_cut_short_on_a_new_network(client: Recorder) -> None:
    client.start()
    for _ in range(2):
        client.to_deadline()  # no answer in time
        client.to_deadline()
    assert client.machine.next_deadline() == client.now + 16
    client.hint("network_up")
    assert client.machine.next_deadline() == client.now + 4


@scenario(tick_s=1)
def a_wall_clock_that_is_ahead_means_that_we_slept(client: Recorder) -> None:
    connect(client)
    client.after(2)
    client.sleep(600)
    client.after(1)
    assert client.fields("Send", last=1) == [[1, [{"id": 2, "ping": {}}]]]
    client.to_deadline()
    client.to_deadline()
    client.to_deadline()
    assert client.fields("Closed")[0][1] == "no answer to a probe within 3 s"


@scenario()
def a_timer_that_is_late_means_that_we_slept(client: Recorder) -> None:
    connect(client)
    client.now = 3000
    client.look()
    assert client.kinds() == ["Send"]
    assert client.machine.next_deadline() == 3003
    client.received(1, {"id": 2, "ping": {}})
    assert not client.fields("Closed")


@scenario()
def a_timer_that_is_a_little_late_means_nothing(client: Recorder) -> None:
    connect(client)
    client.now = 37
    client.look()
    assert client.fields("Closed")[0][1] == "nothing was heard in time"


@scenario()
def who_slept_over_a_probe_probes_again(client: Recorder) -> None:
    connect(client)
    client.hint("wake")
    client.now = 1000
    client.look()
    assert client.kinds() == ["Send"]
    assert client.machine.next_deadline() == 1003


@scenario()
def who_slept_over_an_attempt_gives_it_a_moment(client: Recorder) -> None:
    client.start()
    client.now = 1000
    client.look()
    assert not client.last
    client.received(1, welcome())
    assert client.state() == "online"


@scenario(transports=("sse",))
def who_slept_over_a_request_gives_it_a_moment(client: Recorder) -> None:
    connect(client, session="s", node="n")
    client.publish()
    client.now = 60
    client.look()
    assert not client.last
    assert client.machine.next_deadline() == 63


@scenario(transports=("longpoll",))
def a_poll_that_is_held_is_replaced_by_a_probe(client: Recorder) -> None:
    poll_online(client, placed(1, 3))
    client.after(5)
    client.hint("wake")
    assert client.fields("Poll", last=1)[0][2] == 0
    client.polled(1, placed(id_of(client, "subscribe"), after=3))
    assert client.fields("Poll", last=1)[0][2] == 25
    client.hint("wake")
    client.to_deadline()
    assert client.fields("Closed")[0][1] == "no answer to a probe within 3 s"


@scenario()
def who_wakes_while_waiting_tries_at_once(client: Recorder) -> None:
    client.start()
    client.lost(1, is_reachable=False)
    client.hint("wake")
    assert client.fields("Open", last=1)


@scenario(tick_s=1)
def timers_that_are_always_late_do_not_keep_a_dead_connection(client: Recorder) -> None:
    """As in a tab that nobody looks at: each minute looks like a sleep, but whoever is there answers in
    between."""
    connect(client)
    for _ in range(3):
        client.now += 60
        client.look()
    assert client.fields("Closed")[-1][:2] == [1006, "no answer to a probe within 3 s"]


@scenario(tick_s=1)
def timers_that_are_always_late_do_not_keep_an_attempt(client: Recorder) -> None:
    client.start()
    for _ in range(2):
        client.now += 60
        client.look()
    assert client.fields("Closed")[-1][:2] == [1006, "no answer in time"]
