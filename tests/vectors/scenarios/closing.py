"""Closing a client."""

from tests.vectors.recorder import Recorder
from tests.vectors.telling import connect, scenario


def _silent(client: Recorder) -> None:
    """Whatever is said to a closed client, it does nothing, and waits for nothing."""
    steps = len(client.steps)
    client.start()
    client.subscribe("z")
    client.unsubscribe("z")
    client.token("new")
    client.no_token("none")
    client.received(1, "{}")
    client.sent(1)
    client.polled(1)
    client.lost(1)
    client.hint("network_down")
    client.hint("network_up")
    client.hint("wake")
    client.after(100)
    client.look()
    client.close()
    assert not any(step["outputs"] for step in client.steps[steps:])
    assert client.machine.next_deadline() is None


@scenario()
def closing_gives_up_what_is_pending(client: Recorder) -> None:
    connect(client)
    client.publish()
    client.request("rpc", {"method": "add"})
    client.request("presence", {"channel": "a"})
    client.close()
    assert client.kinds() == ["Close", "Failed", "Rejected", "Failed", "StateChanged", "Closed"]
    client.publish()
    assert client.kinds() == ["Rejected"]
    client.request("presence", {"channel": "a"})
    assert client.kinds() == ["Failed"]
    _silent(client)


@scenario()
def closing_while_connecting(client: Recorder) -> None:
    client.start()
    client.close()
    assert client.last[-1] == ["Closed", 1000, "closed by the application", False, -1]
    _silent(client)


@scenario(has_tokens=True)
def closing_while_a_token_is_asked_for(client: Recorder) -> None:
    client.start()
    client.close()
    _silent(client)


@scenario()
def closing_while_waiting(client: Recorder) -> None:
    client.start()
    client.lost(1)
    client.close()
    _silent(client)


@scenario(first_transport="poll")
def closing_while_a_better_transport_is_tried(client: Recorder) -> None:
    client.start()
    client.received(1, {"id": 1, "connect": {}})
    client.after(10)
    client.close()
    assert client.fields("Close", last=1) == [[1], [2]]
    _silent(client)


@scenario()
def a_server_that_says_never_closes_it_and_it_was_open(client: Recorder) -> None:
    connect(client)
    client.lost(1, 3503, "force disconnect")
    assert client.last[-1] == ["Closed", 3503, "force disconnect", True, -1]
    _silent(client)
