"""A position that cannot be continued is never met with silence; and a server that is killed loses nothing
that it answered."""

import http.client
import json
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, WebSocketException

from heartwire.testing.server import ServerProcess, run_server
from tests.integration.wire import Stream, Task, ask, get, publish, until, ws

KEPT = ["6x", "7x", "8x", "9x", "10x"]


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that keeps five publications per channel."""
    folder = tmp_path_factory.mktemp("forgetful")
    Path(folder, "heartwire.toml").write_text('[namespaces.""]\nhistory_size = 5\n')
    with run_server("--config", "heartwire.toml", engine="sqlite:///five.db", folder=folder) as server:
        yield server


def fill(server: ServerProcess, channel: str) -> str:
    """Ten publications, of which five are kept; the epoch."""
    for number in range(1, 11):
        last = publish(server.url, channel, f"{number}x")
    return last.split(".")[0]


@pytest.fixture(params=["trimmed", "foreign epoch", "never given out"])
def lost(request: pytest.FixtureRequest, forgetful: ServerProcess, channel: str) -> tuple[str, str]:
    """The channel's epoch, and a position that cannot be continued."""
    epoch = fill(forgetful, channel)
    return epoch, {"trimmed": f"{epoch}.4", "foreign epoch": "AAAAAAAA.7", "never given out": f"{epoch}.11"}[
        request.param
    ]


@pytest.mark.parametrize("query", ["", "&wait=20"], ids=["poll", "long poll"])
def test_polls_tell_of_a_gap_at_once(
    forgetful: ServerProcess, channel: str, lost: tuple[str, str], query: str
) -> None:
    epoch, since = lost
    page = get(forgetful.url, f"/channels/{channel}?since={since}{query}").json
    assert (page["recovered"], page["position"]) == (False, f"{epoch}.10")
    assert [(item["position"], item["data"]) for item in page["publications"]] == [
        (f"{epoch}.{number}", f"{number}x") for number in range(6, 11)
    ]
    assert get(forgetful.url, f"/channels/{channel}", If_None_Match=f'"{since}"').json == page
    assert get(forgetful.url, f"/channels/{channel}?since={page['position']}").json["recovered"]


@pytest.mark.parametrize("format", ["raw", "json"])
def test_sse_reports_a_gap(
    forgetful: ServerProcess, channel: str, lost: tuple[str, str], format: str
) -> None:
    epoch, since = lost
    with Stream(forgetful.url, f"/channels/{channel}?format={format}", {"Last-Event-ID": since}) as stream:
        gap, *kept = stream.events(6)
        assert gap == ("gap", f'{{"position":"{epoch}.5","recovered":false}}', f"{epoch}.5")
        data = [event.data if format == "raw" else json.loads(event.data or "")["data"] for event in kept]
        assert data == KEPT
        assert kept[-1].id == f"{epoch}.10"
        publish(forgetful.url, channel, "live")
        assert stream.events(1)[0].id == f"{epoch}.11"


def test_json_websocket_reports_a_gap(forgetful: ServerProcess, channel: str, lost: tuple[str, str]) -> None:
    epoch, since = lost
    with ws(forgetful.url, f"/channels/{channel}?format=json&since={since}") as socket:
        told = [json.loads(socket.recv()) for _ in range(6)]
        assert told[0] == {"position": f"{epoch}.5", "recovered": False}
        assert [item["data"] for item in told[1:]] == KEPT
        socket.send("live")
        assert json.loads(socket.recv()) == {"position": f"{epoch}.11", "data": "live"}


def test_raw_websocket_is_closed_with_the_new_position(
    forgetful: ServerProcess, channel: str, lost: tuple[str, str]
) -> None:
    epoch, since = lost
    with ws(forgetful.url, f"/channels/{channel}?since={since}") as socket:
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 3010
        assert closed.value.rcvd.reason == f"insufficient state: position is now {epoch}.5"
    with ws(forgetful.url, f"/channels/{channel}?since={epoch}.5") as socket:
        assert [socket.recv(10) for _ in range(5)] == KEPT


def test_several_channels_tell_which_one_has_a_gap(
    forgetful: ServerProcess, channel: str, lost: tuple[str, str]
) -> None:
    epoch, since = lost
    other = f"{channel}-other"
    whole = publish(forgetful.url, other, "y")
    path = f"/channels?channel={channel}&channel={other}"
    vector = f"{since}~{whole.split('.')[0]}.0"

    page = get(forgetful.url, f"{path}&since={vector}").json
    assert (page["recovered"], page["position"]) == (False, f"{epoch}.10~{whole}")
    assert [item["data"] for item in page["publications"]] == [*KEPT, "y"]

    with Stream(forgetful.url, path, {"Last-Event-ID": vector}) as stream:
        events = stream.events(7)
        gaps = [json.loads(event.data or "") for event in events if event.event == "gap"]
        assert gaps == [{"position": f"{epoch}.5", "recovered": False, "channel": channel}]
        assert [
            json.loads(event.data or "")["data"]
            for event in events
            if f'"{channel}","data"' in (event.data or "")
        ] == KEPT
        assert events[-1].id == f"{epoch}.10~{whole}"

    with ws(forgetful.url, f"{path}&since={vector}") as socket:
        told = [item for item in (json.loads(socket.recv(10)) for _ in range(8)) if "channel" in item]
        (gap,) = (item for item in told if "recovered" in item)
        assert (gap["position"], gap["recovered"], gap["channel"]) == (f"{epoch}.5", False, channel)
        assert [item["data"] for item in told if item["channel"] == channel and "data" in item] == KEPT
        assert [item["data"] for item in told if item["channel"] == other] == ["y"]
        assert told[-1]["since"] == f"{epoch}.10~{whole}"


def test_position_of_another_life_in_a_channel_without_publications(
    forgetful: ServerProcess, channel: str
) -> None:
    page = get(forgetful.url, f"/channels/{channel}?since=AAAAAAAA.7&wait=20").json
    assert (page["recovered"], page["publications"]) == (False, [])
    epoch, _, offset = page["position"].partition(".")
    assert (epoch != "AAAAAAAA", offset) == (True, "0")
    assert publish(forgetful.url, channel, "first") == f"{epoch}.1"
    assert get(forgetful.url, f"/channels/{channel}?since={page['position']}").json["recovered"]


def test_earliest_is_the_oldest_kept_and_no_gap(forgetful: ServerProcess, channel: str) -> None:
    epoch = fill(forgetful, channel)
    page = get(forgetful.url, f"/channels/{channel}?since=earliest").json
    assert (page["recovered"], [item["data"] for item in page["publications"]]) == (True, KEPT)
    with ws(forgetful.url, f"/channels/{channel}?since=earliest&format=json") as socket:
        assert json.loads(socket.recv()) == {"position": f"{epoch}.5", "recovered": True}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["memory", "sqlite:///gone.db"])
def test_positions_of_a_deleted_database(engine: str, tmp_path: Path) -> None:
    """A new life counts from 1 again; whoever comes with a position of the old one is told, and gets
    everything."""
    with run_server(engine=engine, folder=tmp_path) as server:
        old = [publish(server.url, "a", f"old {number}") for number in range(3)][-1]
        server.kill()
        for file in tmp_path.glob("gone.db*"):
            file.unlink()
        server.start()
        fresh = [publish(server.url, "a", f"new {number}") for number in range(5)]
        assert fresh[2].split(".")[1] == old.split(".")[1]
        assert fresh[2] != old
        page = get(server.url, f"/channels/a?since={old}&wait=20").json
        assert (page["recovered"], page["position"]) == (False, fresh[-1])
        assert [item["position"] for item in page["publications"]] == fresh
        with ws(server.url, f"/channels/a?format=json&since={old}") as socket:
            assert json.loads(socket.recv())["recovered"] is False
            assert [json.loads(socket.recv())["position"] for _ in range(5)] == fresh
        with Stream(server.url, "/channels/a", {"Last-Event-ID": old}) as stream:
            assert [event.event for event in stream.events(6)] == ["gap", *["message"] * 5]


@pytest.mark.slow
def test_positions_outlive_a_restart(tmp_path: Path) -> None:
    with run_server(engine="sqlite:///kept.db", folder=tmp_path) as server:
        first = publish(server.url, "a", "before", Idempotency_Key="k")
        server.stop()
        server.start()
        assert publish(server.url, "a", "before", Idempotency_Key="k") == first
        second = publish(server.url, "a", "after")
        page = get(server.url, f"/channels/a?since={first}").json
        assert page == {
            "publications": [{"position": second, "data": "after"}],
            "position": second,
            "recovered": True,
        }


# -- kill -9 -------------------------------------------------------------------------------------------------


class Crowd:
    """Publishers and subscribers that go on, whatever happens to the server."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.done = threading.Event()
        self.answered: dict[str, str] = {}
        self._pause = threading.Event()

    def publish(self, name: str) -> None:
        """One message after the other; each is tried with its key until it is answered."""
        number = 0
        while not self.done.is_set():
            try:
                connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=10)
                while not self.done.is_set():
                    data = f"{name}.{number}x"
                    headers = {"Content-Type": "text/plain", "Idempotency-Key": data}
                    answer = ask(connection, "POST", "/channels/a", data, headers)
                    assert answer.status == 200, answer
                    self.answered[data] = answer.json["position"]
                    number += 1
            except (OSError, http.client.HTTPException):
                self._pause.wait(0.01)

    def follow(self, read: Callable[[str], Iterator[dict[str, Any]]], since: str) -> list[dict[str, Any]]:
        """Everything after ``since``, across reconnections, up to the message that ends it."""
        got: list[dict[str, Any]] = []
        while True:
            try:
                for item in read(since):
                    got.append(item)
                    since = item["position"]
                    if item["data"] == "the end":
                        return got
            except (OSError, http.client.HTTPException, WebSocketException, AssertionError):
                self._pause.wait(0.01)

    def polls(self, since: str) -> Iterator[dict[str, Any]]:
        while True:
            page = get(self.server.url, f"/channels/a?since={since}&wait=10").json
            assert page["recovered"] is True, page
            yield from page["publications"]
            since = page["position"]

    def events(self, since: str) -> Iterator[dict[str, Any]]:
        with Stream(self.server.url, "/channels/a", {"Last-Event-ID": since}) as stream:
            for event in stream:
                if event.data is not None:
                    yield {"position": event.id, "data": event.data}

    def socket(self, since: str) -> Iterator[dict[str, Any]]:
        with ws(self.server.url, f"/channels/a?format=json&since={since}") as socket:
            for frame in socket:
                item = json.loads(frame)
                yield item if "data" in item else {"position": item["position"], "data": item["recovered"]}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_kill_nine_twenty_times_loses_nothing(tmp_path: Path) -> None:
    dice = random.Random(9)
    with run_server(engine="sqlite:///killed.db", folder=tmp_path) as server:
        crowd = Crowd(server)
        start = get(server.url, "/channels/a").json["position"]
        epoch = start.split(".")[0]
        readers = (crowd.polls, crowd.events, crowd.socket)
        followers = [Task(partial(crowd.follow, read, start)) for read in readers]
        publishers = [Task(lambda name=name: crowd.publish(name)) for name in "abcd"]  # type: ignore[misc]
        for _ in range(20):
            enough = len(crowd.answered) + dice.randint(20, 200)
            until(lambda: len(crowd.answered) >= enough)  # noqa: B023 - asked within this round
            server.restart()
        crowd.done.set()
        for publisher in publishers:
            publisher.result()
        publish(server.url, "a", "the end")

        # What each reader saw is the whole stream: contiguous, nothing twice, and every answered publish at
        # its position.
        streams = [follower.result() for follower in followers]
        for stream in streams:
            items = [
                (item["position"], item["data"]) for item in stream if not isinstance(item["data"], bool)
            ]
            assert [position for position, _ in items] == [
                f"{epoch}.{number}" for number in range(1, len(items) + 1)
            ]
            assert all(item["data"] is not False for item in stream)  # no gap was ever told
            by_data = {data: position for position, data in items}
            assert len(by_data) == len(items)
            assert crowd.answered.items() <= by_data.items()
            for name in "abcd":
                mine = [data for _, data in items if data.startswith(name)]
                assert mine == [f"{name}.{number}x" for number in range(len(mine))]
        assert "Traceback" not in server.log
