"""`heartwire copy`: streams of one store in another, read on by their readers."""

import subprocess
from pathlib import Path

import pytest

from heartwire.engines.attached import AttachedEngine
from heartwire.engines.contract import Engine, Feed, Retention
from heartwire.engines.copying import Copied, copy_streams
from heartwire.engines.memory import MemoryEngine
from heartwire.engines.sqlite import SqliteEngine
from heartwire.errors import ConfigError
from heartwire.streams.record import Claim, Producer, StreamClosed, StreamOptions
from heartwire.streams.streams import Streams
from heartwire.testing.clock import FakeClock
from heartwire.testing.server import COMMAND, run_server
from heartwire.types import Channel, Message
from tests.integration.wire import get, publish


def _copy(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, "copy", *arguments], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_readers_go_on_in_the_copy(tmp_path: Path) -> None:
    with run_server(engine="sqlite:///old.db", folder=tmp_path) as server:
        first = publish(server.url, "chat", "one")
        publish(server.url, "chat", b"\0\xff")
        last = publish(server.url, "chat", "three", Idempotency_Key="k")
        for number in range(20):
            publish(server.url, f"room:{number}", str(number))
        before = get(server.url, "/channels/chat?since=earliest").json
        server.stop()
    done = _copy(tmp_path, "sqlite:///old.db", "sqlite:///new.db")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "heartwire: copied 21 streams, 23 publications, 0.0 MB\n"
    with run_server(engine="sqlite:///new.db", folder=tmp_path) as server:
        assert get(server.url, "/channels/chat?since=earliest").json == before
        page = get(server.url, f"/channels/chat?since={first}").json
        assert (len(page["publications"]), page["recovered"], page["position"]) == (2, True, last)
        epoch, _, offset = last.rpartition(".")
        assert publish(server.url, "chat", "four") == f"{epoch}.{int(offset) + 1}"
        busy = _copy(tmp_path, "sqlite:///new.db", "sqlite:///other.db")
        assert (busy.returncode, "is in use by another process" in busy.stderr) == (1, True)
    full = _copy(tmp_path, "sqlite:///old.db", "sqlite:///new.db")
    assert (full.returncode, "take an empty store" in full.stderr) == (1, True)


async def test_pages_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heartwire.engines.copying._PAGE_ITEMS", 2)
    source = MemoryEngine()
    await _fill(source, 5)
    seen: list[Copied] = []
    target = SqliteEngine(tmp_path / "t.db")
    copied = await copy_streams(source, target, progress=seen.append)
    assert copied == Copied(2, 6, 11)
    assert [one.publications for one in seen] == [2, 4, 5, 6]


async def test_records_are_copied_and_closed_streams_stay_closed(tmp_path: Path) -> None:
    clock = FakeClock()
    source, target = MemoryEngine(clock=clock), SqliteEngine(tmp_path / "t.db", clock=clock)
    node = Streams(source, max_bytes=lambda channel: 1000)
    options, word = StreamOptions(content_type="text/plain", ttl_s=60), [Message(b"word")]
    producer = Claim(producer=Producer("p", 0, 0))
    for name in ("closed", "open", "gone"):
        await node.create(Channel(name), options)
        await node.append(Channel(name), word, producer)
    await node.close(Channel("closed"), "done")
    clock.advance(40)
    for name in ("closed", "open"):
        node.touch(Channel(name))
    clock.advance(40)
    assert await copy_streams(source, target) == Copied(2, 3, 25)
    await target.start(Feed())
    there = Streams(target, max_bytes=lambda channel: 1000)
    with pytest.raises(StreamClosed):
        await there.append(Channel("closed"), word)
    assert not (await there.append(Channel("open"), word, producer))[0].is_new
    seen = await node.look(Channel("open"))
    assert (await there.append(Channel("open"), word))[1] == (seen.tail.epoch, 2)
    assert (await target.record(Channel("gone"))).revision == 0
    await target.stop()


async def _fill(engine: MemoryEngine, count: int) -> None:
    for _ in range(count):
        engine.append(Channel("a"), Message(b"ab"), Retention(100, 100))
    engine.append(Channel("b"), Message(b"c"), Retention(100, 100))


@pytest.mark.parametrize("which", ["FROM", "TO"])
async def test_an_engine_that_is_no_store_cannot_be_copied(which: str) -> None:
    engines: list[Engine] = [MemoryEngine(), AttachedEngine("/run/s")]
    source, target = reversed(engines) if which == "FROM" else engines
    with pytest.raises(ConfigError, match=f"{which} = 'AttachedEngine': .* name the store itself"):
        await copy_streams(source, target)
