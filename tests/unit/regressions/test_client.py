"""Faults that simulations found in the client's machine, each as small as it can be."""

import json
from collections.abc import Iterator
from typing import Any

from heartwire.client import outputs as out
from heartwire.client.channel_state import ChannelState
from heartwire.client.machine import Machine
from heartwire.client.options import Options
from heartwire.client.states import State
from heartwire.client.wire import Pub
from heartwire.types import Position


def machine(*transports: str, **options: Any) -> Machine:
    return Machine(Options(transports=transports, **options), prefix="k", draw=lambda: 0.5, now=0, wall=0)  # type: ignore[arg-type]


def taken(client: Machine, kind: type | tuple[type, ...]) -> list[Any]:
    outputs, client.outputs[:] = list(client.outputs), []
    return [output for output in outputs if isinstance(output, kind)]


def commands(frame: str) -> Iterator[tuple[int, str, Any]]:
    for line in frame.split("\n"):
        command = json.loads(line)
        (method,) = command.keys() - {"id"}
        yield command["id"], method, command[method]


def polling(transport: str = "longpoll", **options: Any) -> Machine:
    """One that is connected, by its first poll."""
    client = machine(transport, **options)
    client.start(0)
    (poll,) = taken(client, out.Poll)
    client.received(poll.generation, '{"id":1,"connect":{"client":"c"}}', 0)
    client.polled(poll.generation, 0)
    client.outputs.clear()
    return client


def refusal(id: int) -> str:
    return json.dumps({"id": id, "error": {"code": 100, "message": "later", "temporary": True}})


def test_request_of_a_polling_client_waits_for_the_one_before_it() -> None:
    """Found by seed 39: the second request had no part in the first one's refusal, and its publish
    overtook."""
    client = polling()
    client.publish("a", "1", "", 1)
    (first,) = taken(client, out.Send)
    client.publish("a", "2", "", 1.1)
    assert taken(client, out.Send) == []
    ((id, _, _),) = commands(first.frame)
    client.received(first.generation, refusal(id), 1.2)
    client.sent(first.generation, 1.2)
    assert taken(client, out.Send) == []
    client.handle_deadline(3, 3)
    (both,) = taken(client, out.Send)
    assert [body["data"] for _, _, body in commands(both.frame)] == [1, 2]


def test_publishes_of_one_request_are_in_one_frame() -> None:
    client = polling()
    for _ in range(3):
        client.publish("a", json.dumps("x" * 30_000), "", 1)
    (first,) = taken(client, out.Send)
    ((id, _, _),) = commands(first.frame)
    client.received(first.generation, json.dumps({"id": id, "publish": {}}), 1.2)
    client.sent(first.generation, 1.2)
    (second,) = taken(client, out.Send)
    assert [len(list(commands(send.frame))) for send in (first, second)] == [1, 2]


def test_publish_that_is_larger_than_a_frame_goes_alone() -> None:
    client = polling()
    client.publish("a", json.dumps("x" * 200_000), "", 1)
    assert len(taken(client, out.Send)) == 1


def trying(client: Machine) -> tuple[int, dict[str, int]]:
    """Its attempt, and the ids of what is asked with its first words."""
    client.start(0)
    (opened,) = taken(client, out.Open)
    return opened.generation, {method: id for id, method, _ in commands(opened.frame)}


def asked(client: Machine) -> list[tuple[str, Any]]:
    return [(method, body) for send in taken(client, out.Send) for _, method, body in commands(send.frame)]


def test_channel_that_is_followed_anew_before_the_connection_opens() -> None:
    """Found by seed 21: it was asked for from the old position, and then not any more."""
    client = machine("websocket")
    client.subscribe("a", Position("e", 7), 0)
    generation, ids = trying(client)
    client.unsubscribe("a", 0.1)
    client.subscribe("a", "earliest", 0.2)
    client.received(generation, json.dumps({"id": ids["connect"], "connect": {"client": "c"}}), 1)
    assert [(method, body.get("offset")) for method, body in asked(client)] == [
        ("unsubscribe", None),
        ("subscribe", 0),
    ]
    client.received(
        generation, json.dumps({"id": ids["subscribe"], "subscribe": {"epoch": "e", "offset": 7}}), 1
    )
    assert taken(client, out.Subscribed) == []


def test_channel_that_is_paused_before_the_connection_opens() -> None:
    client = machine("websocket")
    client.subscribe("a", None, 0)
    generation, ids = trying(client)
    client.pause("a", 0.1)
    client.received(generation, json.dumps({"id": ids["connect"], "connect": {"client": "c"}}), 1)
    client.received(
        generation, json.dumps({"id": ids["subscribe"], "subscribe": {"epoch": "e", "offset": 7}}), 1
    )
    assert [method for method, _ in asked(client)] == ["unsubscribe"]
    client.resume("a", 2)
    assert [method for method, _ in asked(client)] == ["subscribe"]


def test_network_that_swallows_connect_does_not_end_the_client() -> None:
    """Found by seed 125: the server closed with 3502, stale, and the client took it for its last word."""
    client = machine("websocket")
    client.start(0)
    (opened,) = taken(client, out.Open)
    client.lost(opened.generation, 3502, "stale", 10)
    assert client.state is State.WAITING


def test_answer_of_a_better_connection_may_be_older_than_what_is_known() -> None:
    """Found by seed 441: what came on the old connection in the meantime was delivered again, after a gap
    backwards."""
    following = ChannelState("a", Position("e", 6))
    assert following.subscribed("e", 6, was_recovering=True, recovered=True, asked=Position("e", 6)) is None
    assert [pub.offset for pub in following.news([Pub(offset=7), Pub(offset=8)])] == [7, 8]
    assert following.subscribed("e", 7, was_recovering=True, recovered=False, asked=Position("e", 6)) is None
    assert following.position == Position("e", 8)
    assert [pub.offset for pub in following.news([Pub(offset=8), Pub(offset=9)])] == [9]
