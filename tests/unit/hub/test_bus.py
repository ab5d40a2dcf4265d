"""What nodes ask each other, on a post office that the test holds."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from heartwire.errors import HeartwireError, Refused
from heartwire.hub import bus as bus_module
from heartwire.hub.bus import Answers, Bus


class _Office:
    """Nodes that are listed, and those of them that get their mail."""

    def __init__(self, *names: str) -> None:
        self.buses: dict[str, Bus] = {}
        self.listed = list(names)
        self.asked_for_nodes = 0
        for name in names:
            self.buses[name] = Bus(_Place(self, name), lambda: 0.0)  # type: ignore[arg-type]


class _Place:
    """`SharedEngine`, as far as a bus uses it."""

    def __init__(self, office: _Office, node: str) -> None:
        self.node = node
        self._office = office

    async def nodes(self) -> list[str]:
        self._office.asked_for_nodes += 1
        return list(self._office.listed)

    def send(self, node: str | None, body: bytes) -> None:
        for name, bus in self._office.buses.items():
            if name == node or (node is None and name != self.node):
                asyncio.get_running_loop().call_soon(bus.heard, body)


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> _Office:
    monkeypatch.setattr(bus_module, "ANSWER_S", 0.05)
    return _Office("a", "b", "c")


def _answers(bus: Bus, answer: Callable[[Any], Any]) -> None:
    async def handler(about: Any) -> Any:
        return answer(about)

    bus.handlers["double"] = handler


async def test_all_others_answer(office: _Office) -> None:
    for name, bus in office.buses.items():
        _answers(bus, lambda about, name=name: [name, about * 2])  # type: ignore[misc]
    answers = await office.buses["a"].ask_all("double", 21)
    assert answers == Answers({"b": ["b", 42], "c": ["c", 42]}, [])


async def test_a_node_that_does_not_answer_is_missing(office: _Office) -> None:
    _answers(office.buses["b"], lambda about: about)
    del office.buses["c"]
    assert await office.buses["a"].ask_all("double", 1) == Answers({"b": 1}, ["c"])


async def test_nobody_is_asked_where_nobody_is(office: _Office) -> None:
    office.listed = ["a"]
    assert await office.buses["a"].ask_all("double", 1) == Answers({}, [])
    assert await Bus(None, lambda: 0.0).ask_all("double", 1) == Answers({}, [])


async def test_what_a_node_raises_is_raised_here(office: _Office, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(about: Any) -> Any:
        raise Refused("too_many_requests", "not so many")

    def fail(about: Any) -> Any:
        raise RuntimeError("a secret of that node")

    _answers(office.buses["b"], refuse)
    with pytest.raises(Refused, match="not so many") as raised:
        await office.buses["a"].ask("b", "double", 1, within_s=1)
    assert raised.value.code.name == "too_many_requests"
    _answers(office.buses["b"], fail)
    with pytest.raises(HeartwireError, match="internal server error on another node") as failed:
        await office.buses["a"].ask("b", "double", 1, within_s=1)
    assert failed.value.code.name == "internal"
    assert "a secret of that node" in caplog.text


async def test_a_node_of_another_version_says_so(office: _Office) -> None:
    with pytest.raises(Refused, match="does not know 'double': it is of another version"):
        await office.buses["a"].ask("b", "double", 1, within_s=1)


async def test_a_node_that_is_not_there_is_not_waited_for(office: _Office) -> None:
    for name in ("somebody", "a"):
        with pytest.raises(Refused, match=f"node '{name}' is not there") as raised:
            await office.buses["a"].ask(name, "double", 1, within_s=60)
        assert raised.value.code.name == "not_found"


async def test_nodes_are_not_asked_for_each_time(office: _Office) -> None:
    _answers(office.buses["b"], lambda about: about)
    for number in range(10):
        assert await office.buses["a"].ask("b", "double", number, within_s=1) == number
    assert office.asked_for_nodes == 1


async def test_questions_come_in_the_order_they_are_asked(office: _Office) -> None:
    heard: list[int] = []
    _answers(office.buses["b"], heard.append)
    await asyncio.gather(*(office.buses["a"].ask("b", "double", one, within_s=1) for one in range(50)))
    assert heard == list(range(50))


async def test_questions_have_a_bound(office: _Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "_MAX_ASKED", 1)
    del office.buses["b"]
    waits = asyncio.ensure_future(office.buses["a"].ask("b", "double", 1, within_s=60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(Refused, match="questions wait for other nodes"):
        await office.buses["a"].ask("b", "double", 2, within_s=60)
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    with pytest.raises(Refused, match="is not there"):  # there is room again
        await office.buses["a"].ask("b", "double", 2, within_s=0.01)


@pytest.mark.parametrize("body", [b"", b"\xc1", msgspec.msgpack.encode(["only", "three", "parts"]), b"\x01"])
async def test_mail_that_is_not_understood_is_logged(
    office: _Office, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    office.buses["a"].heard(body)
    assert "is not understood" in caplog.text


async def test_an_answer_nobody_waits_for_is_nothing(office: _Office) -> None:
    office.buses["a"].heard(msgspec.msgpack.encode(("", 99, "b", (True, 1))))
