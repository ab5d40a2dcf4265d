"""Catching up from a store that answers later."""

import asyncio
from typing import Any, cast

from heartwire.core.switchboard import ReadResult, Switchboard
from heartwire.core.topic import Topic
from heartwire.hub.history import CatchUp, History
from heartwire.types import NOW, Channel, Position


class _Store:
    """Reads that are under way until they are answered."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[ReadResult]] = []

    def whole(self, channel: Channel, start: object, **limits: int) -> asyncio.Future[ReadResult]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


class _Board:
    def __init__(self) -> None:
        self.done: list[Any] = []

    def read_done(self, topic: Topic, start: object, result: ReadResult) -> None:
        self.done.append(topic)

    def read_failed(self, topic: Topic, start: object) -> list[Any]:
        self.done.append(topic)
        return []


async def test_a_store_is_asked_so_many_reads_at_a_time_in_order() -> None:
    """A store that came back was asked by every topic at once: publishes were refused, as too many calls
    waited."""
    store, board = _Store(), _Board()
    catch_up = CatchUp(cast(History, store))
    catch_up.switchboard, catch_up.loop = cast(Switchboard, board), asyncio.get_running_loop()
    for number in range(1000):
        catch_up.read(cast(Topic, _Named(number)), Position("e", 0))
    answered = 0
    while answered < len(store.asked):
        assert len(store.asked) - answered <= 256
        one = store.asked[answered]
        if answered % 3:
            one.set_result(ReadResult(Position("e", 0), [], Position("e", 0), True))
        else:
            one.cancel()
        answered += 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [topic.number for topic in board.done] == list(range(1000))


async def test_where_now_is_does_not_wait_for_those_who_catch_up() -> None:
    """A publish after it, in order, would come before the reader's now, and be missed."""
    store = _Store()
    catch_up = CatchUp(cast(History, store))
    for number in range(300):
        catch_up.read(cast(Topic, _Named(number)), Position("e", 0))
    assert len(store.asked) == 256
    catch_up.read(cast(Topic, _Named(300)), NOW)
    assert len(store.asked) == 257


class _Named:
    def __init__(self, number: int) -> None:
        self.number = number
        self.channel = f"c{number}"
