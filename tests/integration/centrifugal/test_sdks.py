"""The official SDKs of the Centrifugal protocol, unchanged: centrifuge-js in Node, and centrifuge-python."""

import http.client
import json
import signal
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from heartwire.hub.tokens import make_token
from tests.integration.centrifugal.sdk.app import SECRET
from tests.integration.centrifugal.sdk.harness import (
    Relay,
    Sdk,
    SdkError,
    Server,
    node_modules,
    serving,
    until,
)

_numbers = count(1)
Make = Callable[[], Sdk]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("sdk")) as server:
        yield server


@pytest.fixture(params=["js", "python"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "js":
        node_modules()
    return str(request.param)


@pytest.fixture
def make(kind: str) -> Iterator[Make]:
    """Makes clients of one SDK."""
    made: list[Sdk] = []

    def one() -> Sdk:
        sdk = Sdk(kind)
        made.append(sdk)
        return sdk

    yield one
    for sdk in made:
        sdk.__exit__()


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"n{next(_numbers)}-{time.monotonic_ns():x}"


def token(user: str, **claims: Any) -> str:
    return make_token({"sub": user, "exp": int(time.time()) + 3600} | claims, SECRET)


def post(server: Server, channel: str, body: str) -> None:
    """Publish as a plain client does."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token('poster')}"}
    connection.request("POST", f"/channels/{channel}", body.encode(), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


def test_connect_with_a_token(make: Make, server: Server, name: str) -> None:
    sdk = make()
    told = sdk.open(
        server.url, token=token(name, info={"name": "Al"}), data={"channels": [f"feed:{name}"]}, name="test"
    )
    assert told["data"] == {"hello": name, "name": "test"}
    assert sdk.wait("server_subscribed", channel=f"feed:{name}")["recoverable"]
    assert sdk.wait("server_subscribed", channel=f"personal:#{name}")
    sdk.subscribe(f"room:{name}")
    (info,) = sdk.do("presence", channel=f"room:{name}").values()
    assert info == {"user": name, "client": told["client"], "conn": {"name": "Al"}, "chan": None}


@pytest.mark.parametrize(
    ("bad", "code"),
    [("rubbish", 3500), (make_token({"sub": "x"}, "another secret that is long enough"), 3500)],
)
def test_bad_token_is_for_good(make: Make, server: Server, bad: str, code: int) -> None:
    sdk = make()
    address = server.url.replace("http", "ws") + "/connection/websocket"
    sdk.do("open", url=address, options={"token": bad})
    told = sdk.wait("disconnected")
    assert told["code"] == code
    assert told["reason"].startswith("invalid token")


def test_connect_hook_refuses(make: Make, server: Server) -> None:
    sdk = make()
    sdk.do(
        "open",
        url=server.url.replace("http", "ws") + "/connection/websocket",
        options={"data": {"refuse": True}},
    )
    assert sdk.wait("disconnected")["reason"] == "invalid token: not you"
    other = make()
    other.do(
        "open",
        url=server.url.replace("http", "ws") + "/connection/websocket",
        options={"data": {"fault": True}},
    )
    other.wait("server_error")
    until(lambda: "a fault in on_connect" in server.log, "the fault is logged")


def test_everything_once(make: Make, server: Server, name: str) -> None:
    """Subscribe, publish, presence, joins, history, RPC, and what is refused."""
    channel = f"room:{name}"
    one, other = make(), make()
    me, you = one.open(server.url, token=token("1")), other.open(server.url)
    told = one.subscribe(channel)
    assert (told["recoverable"], told["positioned"], told["position"][1]) == (True, True, 0)
    assert one.wait("join", channel=channel)["client"] == me["client"]
    other.subscribe(channel)
    assert one.wait("join", 2, channel=channel)["client"] == you["client"]

    other.do("publish", channel=channel, data={"text": "hi \u2028\n"})
    for sdk in (one, other):
        assert sdk.wait("publication", channel=channel)["data"] == {"text": "hi \u2028\n"}
    assert one.of("publication")[0]["info"] == {
        "user": "",
        "client": you["client"],
        "conn": None,
        "chan": None,
    }
    post(server, channel, '"from a plain client"')
    assert one.wait("publication", 2, channel=channel)["data"] == "from a plain client"

    assert set(one.do("presence", channel=channel)) == {me["client"], you["client"]}
    assert one.do("presence_stats", channel=channel) == [2, 2]
    page = one.do("history", channel=channel, options={"limit": 10})
    assert page["publications"] == [[1, {"text": "hi \u2028\n"}], [2, "from a plain client"]]
    assert page["position"] == [told["position"][0], 2]
    back = one.do("history", channel=channel, options={"limit": 1, "reverse": True})
    assert back["publications"] == [[2, "from a plain client"]]
    since = {"limit": 10, "since": {"offset": 1, "epoch": told["position"][0]}}
    assert one.do("history", channel=channel, options=since)["publications"] == [[2, "from a plain client"]]
    assert one.do("history", channel=channel, options={"limit": 0})["publications"] == []

    assert one.do("rpc", method="echo", data=[1, None]) == {"user": "1", "data": [1, None]}
    assert one.do("rpc", method="add", data=[1, 2]) == 3
    for call, code in [
        ({"what": "rpc", "method": "no", "data": None}, 104),
        ({"what": "rpc", "method": "fault", "data": None}, 100),
        ({"what": "publish", "channel": channel, "data": "forbidden"}, 103),
        ({"what": "publish", "channel": channel, "data": "fault"}, 100),
        ({"what": "publish", "channel": "unknown:x", "data": 1}, 102),
        ({"what": "publish", "channel": f"feed:{name}", "data": 1}, 103),
        ({"what": "presence", "channel": f"quiet:{name}"}, 108),
        (
            {
                "what": "history",
                "channel": channel,
                "options": {"limit": 1, "since": {"offset": 1, "epoch": "other"}},
            },
            112,
        ),
    ]:
        with pytest.raises(SdkError, match=str(code)) as raised:
            one.do(**call)  # type: ignore[arg-type]
        assert raised.value.code == code
    assert "a fault in a method" in server.log
    assert "a fault in on_publish" in server.log
    one.do("publish", channel=channel, data="shout")
    assert one.wait("publication", 3, channel=channel)["data"] == {"shouted": "HELLO"}

    other.do("unsubscribe", channel=channel)
    assert one.wait("leave", channel=channel)["client"] == you["client"]
    other.do("close")
    one.do("close")
    assert one.wait("disconnected")["code"] == 0


def test_joins_for_those_who_ask(make: Make, server: Server, name: str) -> None:
    asks, other = make(), make()
    asks.open(server.url)
    other.open(server.url)
    asks.subscribe(f"asked:{name}", joinLeave=True)
    other.subscribe(f"asked:{name}")
    asks.wait("join", 2, channel=f"asked:{name}")
    other.do("close")
    asks.wait("leave", channel=f"asked:{name}")
    assert other.of("join") == []


def test_subscription_that_is_refused(make: Make, server: Server, name: str) -> None:
    sdk = make()
    sdk.open(server.url)
    for channel, code in [(f"private:{name}", 103), ("unknown:x", 102), ("a\tb", 107)]:
        sdk.do("start", channel=channel)
        assert sdk.wait("unsubscribed", channel=channel)["code"] == code


def test_subscription_token(make: Make, server: Server, name: str) -> None:
    channel = f"private:{name}"
    sdk = make()
    sdk.open(server.url, token=token("7"))
    sdk.subscribe(channel, token=token("7", channel=channel, info={"role": "host"}))
    sdk.do("start", channel=f"{channel}b", options={"token": token("7", channel=channel)})
    # A token for another channel is a fault of the application: the connection ends, for good.
    assert sdk.wait("disconnected")["code"] == 3500


@pytest.mark.slow
def test_tokens_are_refreshed(make: Make, server: Server, name: str) -> None:
    """SDKs ask for a new token when the old one's time is over, without a new connection."""
    sdk = make()
    sdk.open(server.url, token=token(name, exp=int(time.time()) + 2), tokens=[token(name)])
    channel = f"private:{name}"
    short = token(name, channel=channel, expire_at=int(time.time()) + 2)
    sdk.subscribe(channel, token=short, tokens=[token(name, channel=channel)])
    sdk.wait("token", 2)
    assert sdk.do("rpc", method="add", data=[1]) == 1
    assert sdk.of("disconnected") == sdk.of("unsubscribed") == sdk.of("error") == sdk.of("server_error") == []
    assert len(sdk.of("connected")) == 1


def test_token_that_has_expired_is_replaced_at_connect(make: Make, server: Server, name: str) -> None:
    sdk = make()
    sdk.open(server.url, token=token(name, exp=1), tokens=[token(name)])
    assert sdk.wait("connected")["data"]["hello"] == name
    sdk.subscribe(f"room:{name}")


def test_server_subscribes_and_unsubscribes(make: Make, server: Server, name: str, kind: str) -> None:
    sdk = make()
    sdk.open(server.url, data={"channels": [f"feed:{name}"]})
    sdk.wait("server_subscribed", channel=f"feed:{name}")
    sdk.do("rpc", method="burst", data={"channel": f"feed:{name}", "count": 3})
    sdk.wait("server_publication", 3, channel=f"feed:{name}")
    if kind == "js":  # centrifuge-python ignores subscribe pushes and messages
        sdk.do("rpc", method="join", data=f"feed:{name}b")
        sdk.wait("server_subscribed", channel=f"feed:{name}b")
        sdk.do("rpc", method="tell", data=1)
        assert sdk.wait("message")["data"] == {"told": 1}
    sdk.do("rpc", method="drop", data={"channel": f"feed:{name}", "code": 2000})
    sdk.wait("server_unsubscribed", channel=f"feed:{name}")


@pytest.mark.parametrize("kind", ["js"], indirect=True)  # centrifuge-python has no send
def test_send_is_heard(make: Make, server: Server, name: str) -> None:
    sdk = make()
    sdk.open(server.url)
    sdk.subscribe("news:heard")
    sdk.do("send", data={"said": name})
    until(lambda: {"said": name} in [one["data"] for one in sdk.of("publication")], "it is heard")


def test_unsubscribed_by_the_server(make: Make, server: Server, name: str) -> None:
    channel = f"news:{name}"
    sdk = make()
    sdk.open(server.url)
    sdk.subscribe(channel)
    sdk.do("publish", channel=channel, data=1)
    sdk.wait("publication", channel=channel)
    assert sdk.do("rpc", method="drop", data={"channel": channel, "code": 2500})
    again = sdk.wait("subscribed", 2, channel=channel)
    assert (again["was_recovering"], again["recovered"]) == (True, True)
    assert sdk.do("rpc", method="drop", data={"channel": channel, "code": 2000})
    assert sdk.wait("unsubscribed", channel=channel)["reason"] == "as you asked"
    assert sdk.offsets(channel) == [1]


@pytest.mark.parametrize(("code", "comes_back"), [(3503, False), (4501, False), (3011, True), (4001, True)])
def test_disconnected_by_the_server(
    make: Make, server: Server, name: str, code: int, comes_back: bool
) -> None:
    sdk, other = make(), make()
    other.open(server.url)
    other.subscribe("news:ends")
    client = sdk.open(server.url)["client"]
    sdk.begin("rpc", method="kick", data={"code": code})
    if comes_back:
        sdk.wait("connected", 2)
        assert sdk.of("connecting")[-1]["code"] == code
    else:
        assert sdk.wait("disconnected") == {"event": "disconnected", "code": code, "reason": "as you asked"}
    told = {"client": client, "code": code, "reason": "as you asked"}
    until(lambda: told in [one["data"] for one in other.of("publication")], "the disconnect hook has told")


def test_disconnect_hook_is_called(make: Make, server: Server) -> None:
    sdk, other = make(), make()
    other.open(server.url)
    other.subscribe("news:ends")
    client = sdk.open(server.url)["client"]
    sdk.do("close")
    told = {"client": client, "code": 3000, "reason": "connection closed"}
    until(lambda: told in [one["data"] for one in other.of("publication")], "the disconnect hook has told")


def test_several_hundred_channels_on_one_connection(make: Make, server: Server, name: str) -> None:
    channels = [f"news:{name}-{number}" for number in range(400)]
    sdk = make()
    sdk.open(server.url)
    sdk.subscribe(*channels)
    assert len({one["channel"] for one in sdk.of("subscribed")}) == 400
    for channel in channels:
        sdk.begin("publish", channel=channel, data=channel)
    until(lambda: len(sdk.of("publication")) == 400, "all of them have come")
    assert {one["channel"]: one["data"] for one in sdk.of("publication")} == {
        channel: channel for channel in channels
    }


def test_too_many_channels(make: Make, server: Server, name: str) -> None:
    sdk = make()
    sdk.open(server.url)
    sdk.subscribe(*(f"news:{name}-{number}" for number in range(1000)))
    sdk.do("start", channel="news:one-more")
    assert sdk.wait("unsubscribed", channel="news:one-more")["code"] == 106


def test_cache_recovery(make: Make, server: Server, name: str) -> None:
    channel = f"cache:{name}"
    relay = Relay(server.port)
    sdk = make()
    sdk.open(f"http://127.0.0.1:{relay.port}")
    sdk.subscribe(channel)
    post(server, channel, "1")
    sdk.wait("publication", channel=channel)
    relay.cut()
    sdk.wait("connecting", 2)
    for number in range(2, 6):
        post(server, channel, str(number))
    relay.mend()
    assert sdk.wait("subscribed", 2, channel=channel)["recovered"]
    assert sdk.wait("publication", 2, channel=channel)["data"] == 5
    relay.close()


def test_position_that_is_gone_is_a_gap(make: Make, server: Server, name: str) -> None:
    """Only three are kept here: who missed five is told that the rest is lost, and goes on from now.

    They are large, so that the channel's tail in memory, which lingers for those who come back, does not hold
    them either.
    """
    channel = f"short:{name}"
    relay = Relay(server.port)
    sdk = make()
    sdk.open(f"http://127.0.0.1:{relay.port}")
    sdk.subscribe(channel)
    post(server, channel, "1")
    sdk.wait("publication", channel=channel)
    relay.cut()
    sdk.wait("connecting", 2)
    for number in range(2, 7):
        post(server, channel, f'"{number}{"x" * 60_000}"')
    relay.mend()
    told = sdk.wait("subscribed", 2, channel=channel)
    assert (told["was_recovering"], told["recovered"], told["position"][1]) == (True, False, 6)
    post(server, channel, "7")
    sdk.wait("publication", 2, channel=channel)
    assert sdk.offsets(channel) == [1, 7]
    relay.close()


@pytest.mark.slow
def test_nothing_is_lost_when_the_link_is_cut(make: Make, server: Server, name: str) -> None:
    """[T] Cut again and again while others publish; with many channels, some of them longer behind than one
    reply holds."""
    channels = [f"news:{name}-{number}" for number in range(20)]
    relay = Relay(server.port)
    sdk, publisher = make(), make()
    publisher.open(server.url)
    sdk.open(f"http://127.0.0.1:{relay.port}", data={"channels": [f"feed:{name}"]})
    sdk.subscribe(*channels)
    wanted = dict.fromkeys(channels, 0)
    for turn in range(4):
        size = 400 if turn == 2 else 10
        if turn:
            relay.cut()
            sdk.wait("connecting", turn + 1)
        for channel in channels[: 2 if turn == 2 else 20]:
            publisher.do("rpc", method="burst", data={"channel": channel, "count": size})
            wanted[channel] += size
        publisher.do("rpc", method="burst", data={"channel": f"feed:{name}", "count": 5})
        if turn:
            relay.mend()
            sdk.wait("connected", turn + 1)
    for channel, size in wanted.items():
        sdk.wait("publication", size, channel=channel)
    for channel, size in wanted.items():
        assert sdk.offsets(channel) == list(range(1, size + 1)), channel
    sdk.wait("server_publication", 20, channel=f"feed:{name}")
    assert [one["offset"] for one in sdk.of("server_publication")] == list(range(1, 21))
    again = [one for one in sdk.of("subscribed") if one["was_recovering"]]
    assert len(again) >= len(channels)  # a cut may come before all of them are back
    assert all(one["recovered"] for one in again)
    relay.close()


@pytest.mark.slow
def test_nothing_is_lost_when_the_server_is_killed(make: Make, tmp_path: Path) -> None:
    """kill -9 while clients publish: what was answered is there, each once and in order, and everybody hears
    all of it."""
    channels = [f"news:{number}" for number in range(200)]
    with serving(tmp_path) as server:
        sdk, publisher = make(), make()
        sdk.open(server.url)
        sdk.subscribe(*channels)
        publisher.open(server.url)
        kept: dict[str, list[int]] = {channel: [] for channel in channels}
        for life in range(3):
            calls = [(channel, life * 10 + number) for number in range(3) for channel in channels]
            begun = [
                (channel, n, publisher.begin("publish", channel=channel, data=n)) for channel, n in calls
            ]
            answered = 0
            for channel, n, call in begun[:300]:
                publisher.result(call)
                kept[channel].append(n)
                answered += 1
            assert answered == 300
            server.stop(signal.SIGKILL)
            sdk.wait("connecting", life + 2)
            publisher.wait("connecting", life + 2)
            for channel, n, call in begun[300:]:
                try:
                    publisher.result(call)
                    kept[channel].append(n)
                except SdkError:
                    pass
            server.start()
            sdk.wait("connected", life + 2)
            publisher.wait("connected", life + 2)
            sdk.wait("subscribed", life + 2, channel=channels[-1])
        for channel in channels:
            page = publisher.do("history", channel=channel, options={"limit": 100})
            stored = page["publications"]
            sdk.wait("publication", len(stored), channel=channel)
            heard = [[one["offset"], one["data"]] for one in sdk.of("publication", channel=channel)]
            assert heard == stored
            assert [offset for offset, _ in heard] == list(range(1, len(heard) + 1))
            data = [n for _, n in heard]
            assert len(set(data)) == len(data)
            assert set(kept[channel]) <= set(data)
        again = [one for one in sdk.of("subscribed") if one["was_recovering"]]
        assert len(again) == 3 * len(channels)
        assert all(one["recovered"] for one in again)


@pytest.mark.slow
def test_pings_keep_a_busy_connection(make: Make, tmp_path: Path) -> None:
    """[T] centrifuge-python counts only pings as signs of life, so they come also while publications do."""
    with serving(tmp_path, APP_PING_S="1") as server:
        sdk = make()
        delay = {"maxServerPingDelay": 500} if sdk.kind == "js" else {"max_server_ping_delay": 0.5}
        sdk.open(server.url, **delay)
        sdk.subscribe("news:a")
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < 4:
            number += 1
            sdk.do("publish", channel="news:a", data=number)
        sdk.wait("publication", number)
        assert len(sdk.of("connected")) == 1
        assert sdk.of("disconnected") == []


def test_shutdown_asks_clients_to_come_back(make: Make, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        sdk = make()
        sdk.open(server.url)
        sdk.subscribe("news:a")
        server.stop()
        assert sdk.wait("connecting", 2)["code"] == 3001
        server.start()
        sdk.wait("connected", 2)
        sdk.wait("subscribed", 2)


def test_bytes_reach_a_json_client_as_base64(make: Make, server: Server, name: str) -> None:
    sdk = make()
    sdk.open(server.url)
    sdk.subscribe(f"news:{name}")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {"Content-Type": "application/octet-stream", "Authorization": f"Bearer {token('poster')}"}
    connection.request("POST", f"/channels/news:{name}", b"\x00\xff", headers)
    assert connection.getresponse().status == 200
    connection.close()
    told = sdk.wait("publication")
    assert (told["data"], told["tags"]) == ("AP8=", {"encoding": "base64"})
    assert json.dumps(told["offset"]) == "1"
