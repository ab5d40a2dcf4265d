"""The end of a durable stream in the Centrifugal dialect: an unsubscribe push, after all publications."""

from typing import Any, Final

import pytest

from heartwire import Hub
from heartwire.streams.record import Claim, StreamOptions
from heartwire.types import Channel, Message, ServerSubscription
from tests.integration.centrifugal.test_hub import in_hub, opened, turn

STREAM: Final = Channel("s:a")
CLOSED: Final = {"code": 2100, "reason": "stream closed: done"}
END: Final = {"push": {"channel": STREAM, "unsubscribe": CLOSED}}


async def streamed(hub: Hub, *messages: str, is_closed: bool = False, **options: Any) -> str:
    """A stream with messages; its epoch."""
    hub.namespace("s", durable=True, **options)
    data = [Message(message.encode()) for message in messages]
    await hub.node.streams.create(STREAM, StreamOptions(content_type="text/plain"), data)
    if is_closed:
        await hub.node.streams.close(STREAM, "done")
    return (await hub.node.streams.look(STREAM)).tail.epoch


def pub(data: str, offset: int) -> Any:
    """A publication, as it stands in pushes and replies."""
    return {"data": data, "offset": offset, "tags": {"encoding": "text"}}


def pushed(data: str, offset: int) -> Any:
    return {"push": {"channel": STREAM, "pub": pub(data, offset)}}


def test_who_follows_gets_what_came_with_the_end_and_the_end_and_stays_connected() -> None:
    async def test(hub: Hub) -> None:
        await streamed(hub, "one")
        visitor, other = await opened(hub, STREAM), await opened(hub, STREAM)
        await hub.node.streams.append(STREAM, [Message(b"two")], Claim(close="done"))
        await turn()
        assert visitor.link.read() == other.link.read() == [pushed("two", 2), END]
        assert await visitor.say({"id": 9, "ping": {}}) == [{"id": 9, "ping": {}}]
        assert (visitor.connection.channels, visitor.link.subscriptions) == ([], [])
        assert (visitor.link.ended, hub.node.switchboard.topics.get(STREAM) is None) == (None, False)

    in_hub(test)


@pytest.mark.parametrize("has_topic", [True, False], ids=["memory", "engine"])
@pytest.mark.parametrize("offset", [None, 0, 1, 2, 3])
def test_who_subscribes_to_a_closed_stream_gets_what_is_missing_and_the_end(
    has_topic: bool, offset: int | None
) -> None:
    async def test(hub: Hub) -> None:
        epoch = await streamed(hub, "one", "two")
        if has_topic:
            await opened(hub, STREAM)
        await hub.node.streams.close(STREAM, "done")
        await turn()
        visitor = await opened(hub)
        recover = {} if offset is None else {"recover": True, "epoch": epoch, "offset": offset}
        reply, end = await visitor.say({"id": 2, "subscribe": {"channel": STREAM, **recover}})
        got = reply["subscribe"]
        assert (got.get("publications", []), got.get("recovered", False)) == (
            [pub("one", 1), pub("two", 2)][3 if offset is None else offset :],
            offset is not None,
        )
        assert end == END
        assert visitor.connection.channels == []
        (error,) = await visitor.say({"id": 3, "publish": {"channel": STREAM, "data": 1}})
        assert error["error"]["message"].startswith("bad request: stream 's:a' is closed (done)")

    in_hub(test)


def test_a_long_stream_comes_in_pushes_before_its_end() -> None:
    async def test(hub: Hub) -> None:
        epoch = await streamed(hub, *map(str, range(700)), is_closed=True)
        visitor = await opened(hub)
        recover = {"channel": STREAM, "recover": True, "epoch": epoch}
        reply, *more = await visitor.say({"id": 2, "subscribe": recover})
        for _ in range(20):
            await turn()
        *pushes, end = [*more, *visitor.link.read()]
        offsets = [one["offset"] for one in reply["subscribe"]["publications"]]
        offsets += [one["push"]["pub"]["offset"] for one in pushes]
        assert (offsets, end) == ([*range(1, 701)], END)

    in_hub(test)


def test_members_see_each_other_leave_once() -> None:
    async def test(hub: Hub) -> None:
        await streamed(hub, "one", join_leave=True, force_push_join_leave=True)
        first, second = await opened(hub, STREAM), await opened(hub, STREAM)
        second.link.read()
        await hub.node.streams.close(STREAM, "done")
        await turn()
        leave, end = second.link.read()  # the first was told before it
        assert (leave["push"]["leave"]["info"]["client"], end) == (first.connection.id, END)
        assert await hub.node.presence.members(STREAM) == []

    in_hub(test)


def test_a_server_side_subscription_ends_without_its_connection() -> None:
    async def test(hub: Hub) -> None:
        await streamed(hub, "one", is_closed=True)
        visitor = await opened(hub)
        visitor.connection.subscribe(ServerSubscription(STREAM))
        await turn()
        made, end = visitor.link.read()
        assert (made["push"]["subscribe"]["offset"], end, visitor.link.ended) == (2, END, None)

    in_hub(test)


def test_history_does_not_list_the_end() -> None:
    async def test(hub: Hub) -> None:
        await streamed(hub, "one", "two", is_closed=True)
        visitor = await opened(hub)
        for reverse in (False, True):
            asked = {"channel": STREAM, "limit": 10, "reverse": reverse}
            (reply,) = await visitor.say({"id": 5, "history": asked})
            assert [one["offset"] for one in reply["history"]["publications"]] == [1, 2][
                :: -1 if reverse else 1
            ]

    in_hub(test)
