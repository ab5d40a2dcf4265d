"""The ladder of transports: which one is tried."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import connect, id_of, scenario, welcome


@scenario()
def what_does_not_open_is_followed_by_the_next_at_once(client: Recorder) -> None:
    client.start()
    client.lost(1, reason="HTTP 400")
    client.lost(2, reason="HTTP 404")
    client.lost(3, reason="HTTP 502")
    assert [one[1] for one in client.fields("Open")] == ["websocket", "sse", "longpoll", "poll"]
    client.lost(4, reason="HTTP 502")
    assert client.fields("Closed")[-1][3] == 0.25
    client.after(3)
    assert client.fields("Open")[-1][1] == "websocket"


@scenario()
def what_cannot_be_reached_is_not_to_blame(client: Recorder) -> None:
    client.start()
    client.lost(1, is_reachable=False)
    client.to_deadline()
    assert client.fields("Open")[-1][1] == "websocket"


@scenario()
def what_hangs_is_followed_by_the_next(client: Recorder) -> None:
    client.start()
    client.to_deadline()
    assert client.fields("Open")[-1][1] == "sse"


@scenario()
def what_has_worked_has_a_second_chance(client: Recorder) -> None:
    connect(client)
    client.after(20)
    client.received(1, "{}")
    client.lost(1)
    client.to_deadline()
    client.lost(2, reason="HTTP 502")
    client.to_deadline()
    assert client.fields("Open")[-1][1] == "websocket"
    client.lost(3, reason="HTTP 502")
    assert client.fields("Open", last=1)[-1][1] == "sse"


@scenario()
def what_dies_twice_before_its_first_heartbeat_is_left(client: Recorder) -> None:
    connect(client)
    client.lost(1)
    client.to_deadline()
    client.received(2, welcome(2))
    client.lost(2, 1006, "cut")
    assert client.fields("Note") == [["websocket: cut; trying sse"]]
    client.to_deadline()
    assert client.fields("Open")[-1][1] == "sse"


@scenario()
def what_the_server_ends_is_no_early_death(client: Recorder) -> None:
    connect(client)
    for generation in (2, 3):
        client.lost(generation - 1, 1012, "shutdown")
        client.to_deadline()
        client.received(generation, welcome(id_of(client, "connect")))
    assert client.machine.transport == "websocket"


@scenario()
def a_lower_rung_works_and_a_higher_is_tried_after_a_while(client: Recorder) -> None:
    client.start()
    client.lost(1, reason="HTTP 400")
    client.received(2, welcome(id_of(client, "connect"), ping=1000, session="s", node="n"))
    client.after(10)
    assert client.fields("Open", last=1)[0][1] == "websocket"
    client.to_deadline()
    client.after(20)
    assert client.now == 34
    assert client.fields("Open", last=1)[0][1] == "websocket"
    client.received(4, welcome(id_of(client, "connect")))
    assert client.machine.transport == "websocket"


@scenario(attempt_burst=1, attempt_rate_per_s=0.01, first_transport="sse")
def a_higher_rung_takes_from_the_bucket_too(client: Recorder) -> None:
    connect(client, ping=1000)
    client.after(99)
    assert len(client.fields("Open")) == 1
    client.after(2)
    assert len(client.fields("Open")) == 2


@scenario(first_transport="sse", upgrade_cap_s=40)
def a_higher_rung_is_tried_less_and_less(client: Recorder) -> None:
    connect(client, ping=10_000)
    times: list[float] = []
    while len(times) < 4:
        client.to_deadline()
        if client.fields("Open", last=1):
            times.append(client.now)
            client.lost(client.fields("Open")[-1][0], reason="HTTP 400")
    assert times == [10, 30, 70, 110]


@scenario()
def after_an_outage_of_everything_the_rung_that_worked_is_tried_first(client: Recorder) -> None:
    connect(client)
    client.after(20)
    client.received(1, "{}")
    client.lost(1)
    tried: list[str] = []
    while len(tried) < 9:
        client.to_deadline()
        while opened := client.fields("Open", last=1):
            generation, transport, _ = opened[-1]
            tried.append(transport)
            client.lost(generation, reason="no network")
    assert tried[:2] == ["websocket"] * 2  # it had worked: a second chance
    assert tried[2:9] == ["sse", "websocket", "longpoll", "websocket", "poll", "websocket", "sse"]
    client.to_deadline()
    client.received(client.fields("Open")[-1][0], welcome(id_of(client, "connect")))
    assert client.machine.transport == "websocket"


@scenario()
def what_failed_only_with_everything_is_tried_again_at_once(client: Recorder) -> None:
    connect(client)
    client.lost(1, 1012, "shutdown")
    client.to_deadline()
    client.to_deadline()  # no answer: sse at once
    client.lost(3, reason="no network")
    client.to_deadline()
    client.to_deadline()
    assert client.fields("Open")[-1][1] == "longpoll"
    client.polled(5, welcome(id_of(client, "connect")))
    assert client.machine.transport == "longpoll"
    began = client.now
    client.to_deadline()
    assert (client.now, client.fields("Open")[-1][1]) == (began, "websocket")


@scenario(transports=["websocket", "sse", "longpoll"], attempt_burst=100)
def where_nothing_ever_worked_the_first_is_tried_first(client: Recorder) -> None:
    client.start()
    for generation in (1, 2, 3):
        client.lost(generation, reason="HTTP 502")
    for generation, transport in ((4, "websocket"), (5, "sse"), (6, "websocket"), (7, "longpoll")):
        if transport == "websocket":
            client.to_deadline()
        assert client.fields("Open")[-1][1] == transport
        client.lost(generation, reason="HTTP 502")
