"""`connect_sync`: the client for threads."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import heartwire
from heartwire import GivenUp
from heartwire.testing import ServerProcess, run_server
from tests.integration.client.tools import FAST

pytestmark = [pytest.mark.filterwarnings("error::ResourceWarning")]


def test_publish_and_follow(server: ServerProcess, channel: str) -> None:
    with heartwire.connect_sync(server.url) as client:
        client.wait_online()
        assert (client.state, client.transport) == ("online", "websocket")
        following = client.subscribe(channel)
        positions = [client.publish(channel, data) for data in ("text", b"bytes", {"json": 1})]
        assert [next(following).data for _ in range(3)] == ["text", b"bytes", {"json": 1}]
        assert [received.position for received in client.history(channel)] == positions
        assert len(client.presence(channel)) == 1
        with pytest.raises(heartwire.Refused, match="method"):
            client.rpc("nothing")
    assert "heartwire" not in [thread.name for thread in threading.enumerate()]


def test_iterating_from_the_earliest_and_leaving(server: ServerProcess, channel: str) -> None:
    with heartwire.connect_sync(server.url) as client:
        for number in range(5):
            client.publish(channel, number)
        for received in client.subscribe(channel, since="earliest"):
            if received.data == 4:
                break
        del received
        client.client.pending  # noqa: B018 - the loop above has dropped its iterator, which leaves the channel
        assert client.publish(channel, "on").offset == 6


def test_leaving_before_anything_was_read(server: ServerProcess, channel: str) -> None:
    with heartwire.connect_sync(server.url) as client:
        client.subscribe(channel)
        with client.subscribe(channel) as following:
            client.publish(channel, "x")
        assert list(following) == []
        client.subscribe(channel).unsubscribe()
        assert client.presence(channel) == {}


def test_many_threads(server: ServerProcess, channel: str) -> None:
    with heartwire.connect_sync(server.url) as client:
        threads = [
            threading.Thread(target=lambda: [client.publish(channel, "x") for _ in range(20)])
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.publish(channel, "x").offset == 101


def test_waiting_threads_are_woken_at_the_end(server: ServerProcess, channel: str) -> None:
    outcome: list[Any] = []

    def wait() -> None:
        outcome.extend(client.subscribe(channel))
        outcome.append("ended")

    with heartwire.connect_sync(server.url) as client:
        waiting = threading.Thread(target=wait)
        waiting.start()
        while not client.presence(channel):
            pass
    waiting.join(5)
    assert outcome == ["ended"]


def test_what_waits_can_be_read_after_the_end(server: ServerProcess, channel: str) -> None:
    with heartwire.connect_sync(server.url) as client:
        following = client.subscribe(channel)
        for number in range(3):
            last = client.publish(channel, number)
        client.history(channel)  # its answer comes behind the publications
    assert [received.data for received in following] == [0, 1, 2]
    assert following.position == last
    assert list(following) == []


def test_closing_in_its_own_thread_is_refused_and_does_no_harm(server: ServerProcess, channel: str) -> None:
    raised: list[Exception] = []

    def close(event: Any) -> None:
        try:
            client.close()
        except RuntimeError as error:
            raised.append(error)

    with heartwire.connect_sync(server.url) as client:
        client.on("message", close)
        following = client.subscribe(channel)
        client.publish(channel, "x")
        assert next(following).data == "x"
        assert "hand the work to another thread" in str(raised[0])


def test_closed_by_many_threads_at_once(server: ServerProcess, channel: str) -> None:
    with heartwire.connect_sync(server.url) as client:
        client.wait_online()
        raised: list[BaseException] = []

        def close() -> None:
            try:
                client.close()
            except BaseException as error:
                raised.append(error)

        threads = [threading.Thread(target=close) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert raised == []


def test_publishing_to_an_unreachable_server_is_given_up() -> None:
    with (
        heartwire.connect_sync("http://127.0.0.1:1", options=FAST._replace(max_pending_age_s=0.2)) as client,
        pytest.raises(GivenUp, match="not answered"),
    ):
        client.publish("a", "x")


def test_misuse(server: ServerProcess, channel: str) -> None:
    client = heartwire.connect_sync(server.url)
    with pytest.raises(RuntimeError, match=r"with heartwire\.connect_sync"):
        client.publish(channel, "x")
    client.close()
    raised: list[Exception] = []

    def wait_in_its_thread(event: Any) -> None:
        try:
            client.publish(channel, "x")
        except RuntimeError as error:
            raised.append(error)

    with client:
        off = client.on("message", wait_in_its_thread)
        following = client.subscribe(channel)
        client.publish(channel, "x")
        assert next(following).data == "x"
        client.publish(channel, "y")
        assert next(following).data == "y"
        assert "hand the work to another thread" in str(raised[0])
        off()
        with pytest.raises(heartwire.Refused, match="already"):
            client.subscribe(channel)
    client.close()
    for call in (client.wait_online, client.__enter__):
        with pytest.raises(RuntimeError, match=r"with heartwire\.connect_sync|make another"):
            call()


def test_a_forked_child_is_told_at_once(server: ServerProcess, channel: str) -> None:
    # A fork does not copy the client's thread: every call in the child waited for it for ever.
    with heartwire.connect_sync(server.url) as client:
        following = client.subscribe(channel)
        for call in (
            lambda: client.publish(channel, "child"),
            client.wait_online,
            lambda: client.history(channel),
            lambda: client.subscribe(channel + "x"),
            lambda: next(following),
        ):
            assert _in_a_child(call) == (
                "RuntimeError: this client was started in another process: a fork does not copy its thread:"
                " call heartwire.connect_sync in each process"
            )
        assert _in_a_child(client.close) == "None"
        assert _in_a_child(lambda: client.__exit__(None, None, None)) == "None"
        assert _in_a_child(following.unsubscribe) == "None"
        assert _in_a_child(lambda: _publish_anew(server.url, channel)) == "1"
        assert client.publish(channel, "parent").offset == 2
        assert [next(following).data for _ in range(2)] == ["anew", "parent"]


def _publish_anew(url: str, channel: str) -> int:
    with heartwire.connect_sync(url) as client:
        return client.publish(channel, "anew").offset


def _in_a_child(call: Callable[[], Any]) -> str:
    """Return the result of a call in a forked child, or its error."""
    receiving, sending = multiprocessing.get_context("fork").Pipe(duplex=False)
    pid = os.fork()
    if not pid:
        try:
            sending.send(str(call()))
        except BaseException as error:
            sending.send(f"{type(error).__name__}: {error}")
        finally:
            os._exit(0)
    sending.close()
    try:
        assert receiving.poll(10), "it hangs"
        return str(receiving.recv())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        receiving.close()


def test_a_time_limit_of_one_publish() -> None:
    with heartwire.connect_sync("http://127.0.0.1:1", options=FAST) as client:
        with pytest.raises(GivenUp, match=r"not answered within 0\.05 s \(timeout_s\)") as raised:
            client.publish("a", "x", timeout_s=0.05)
        assert not raised.value.is_unknown  # it was never sent, and never will be
        assert client.client.pending == 0
        with pytest.raises(ValueError, match="timeout_s=0"):
            client.publish("a", "x", timeout_s=0)


def test_a_server_that_is_down_is_logged_once_and_so_is_its_return(caplog: pytest.LogCaptureFixture) -> None:
    # Nothing was said until a call failed, two minutes later.
    failed = threading.Semaphore(0)
    with run_server() as server:
        server.kill()
        with heartwire.connect_sync(server.url, options=FAST) as client:
            client.on("close", lambda event: failed.release())
            for _ in range(3):
                assert failed.acquire(timeout=10)
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            assert caplog.records[0].getMessage().startswith(f"{server.url}: cannot connect: no connection: ")
            server.start()
            client.wait_online()
            client.publish("a", "x")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert caplog.records[1].getMessage() == f"{server.url}: connected, over websocket"
