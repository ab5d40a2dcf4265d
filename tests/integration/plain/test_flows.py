"""What the README promises to somebody with `curl`: one channel, every way in, one position for all of
them."""

import http.client
import itertools
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from heartwire.testing.server import ServerProcess, run_server
from tests.integration.wire import Answer, Stream, Task, ask, get, post, present, publish, request, until, ws

TOKEN = re.compile(r"[A-Za-z0-9_-]{8}\.\d+")


def test_form_type_of_curl_is_text_and_everybody_gets_it(server: ServerProcess, channel: str) -> None:
    with (
        Stream(server.url, f"/channels/{channel}") as stream,
        ws(server.url, f"/channels/{channel}") as socket,
    ):
        stream.joined()
        answer = post(server.url, channel, "hello", "application/x-www-form-urlencoded")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json == {"position": answer.json["position"]}
        position = answer.json["position"]
        assert TOKEN.fullmatch(position)
        page = get(server.url, f"/channels/{channel}?since=earliest")
        assert page.json == {
            "publications": [{"position": position, "data": "hello"}],
            "position": position,
            "recovered": True,
        }
        assert stream.events(1) == [("message", "hello", position)]
        assert socket.recv() == "hello"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_itself(server: ServerProcess, channel: str) -> None:
    def curl(*arguments: str) -> str:
        return subprocess.run(
            ("curl", "-s", *arguments), capture_output=True, check=True, text=True, timeout=20
        ).stdout

    url = f"{server.url}/channels/{channel}"
    told = curl("-d", "hello", url)
    assert re.fullmatch(r'\{"position":"[A-Za-z0-9_-]{8}\.1"\}', told), told
    assert curl(f"{url}?since=earliest").startswith('{"publications":[{"position":"')
    command = ("curl", "-sN", "-H", "Accept: text/event-stream", f"{url}?since=earliest")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stream:
        assert stream.stdout is not None
        assert "data: hello\n" in iter(stream.stdout.readline, "")
        stream.kill()


def test_long_poll_opened_before_the_post_answers_at_once(server: ServerProcess, channel: str) -> None:
    position = get(server.url, f"/channels/{channel}").json["position"]
    poll = Task(
        lambda: (get(server.url, f"/channels/{channel}?since={position}&wait=25&client=me"), time.monotonic())
    )
    until(lambda: present(server.url, channel))  # the poll is held
    sent = time.monotonic()
    told = publish(server.url, channel, "hello")
    answer, at = poll.result()
    assert at - sent < 1
    assert answer.json == {
        "publications": [{"position": told, "data": "hello"}],
        "position": told,
        "recovered": True,
    }


def test_get_without_since_starts_from_now(server: ServerProcess, channel: str) -> None:
    position = publish(server.url, channel, "before")
    assert get(server.url, f"/channels/{channel}").json == {
        "publications": [],
        "position": position,
        "recovered": True,
    }
    with (
        Stream(server.url, f"/channels/{channel}") as stream,
        ws(server.url, f"/channels/{channel}?format=json") as socket,
    ):
        assert stream.joined() == position
        assert socket.recv() == f'{{"position":"{position}","recovered":true}}'
        publish(server.url, channel, "after")
        assert [event.data for event in stream.events(1)] == ["after"]
        assert '"data":"after"' in str(socket.recv())


def test_tokens_of_all_transports_are_the_same(server: ServerProcess, channel: str) -> None:
    """Start on polling, go on by SSE, end on WebSocket, and back to a poll that has nothing new."""
    path = f"/channels/{channel}"
    publish(server.url, channel, "1")
    page = get(server.url, f"{path}?since=earliest")
    etag = page.headers["etag"]
    assert etag == f'"{page.json["position"]}"'

    publish(server.url, channel, "2")
    with Stream(server.url, path, {"Last-Event-ID": etag.strip('"')}) as stream:
        assert stream.joined() == etag.strip('"')
        (event,) = stream.events(1)
        assert event.data == "2"

    publish(server.url, channel, "3")
    with ws(server.url, f"{path}?since={event.id}") as socket:
        assert socket.recv() == "3"
    with ws(server.url, f"{path}?format=json&since={event.id}") as socket:
        assert socket.recv() == f'{{"position":"{event.id}","recovered":true}}'
        told = str(socket.recv())
    match = TOKEN.search(told)
    assert match is not None

    assert get(server.url, path, If_None_Match=f'"{match[0]}"').status == 304
    assert get(server.url, path, If_None_Match=etag).json["publications"] == [
        {"position": event.id, "data": 2},
        {"position": match[0], "data": 3},
    ]
    with Stream(server.url, f"{path}?last_event_id={event.id}") as stream:
        assert [event.data for event in stream.events(1)] == ["3"]


@pytest.mark.slow
def test_ten_thousand_messages_across_three_transports(server: ServerProcess, channel: str) -> None:
    """Four publishers at once; the reader changes from polling to SSE to WebSocket and misses, doubles and
    swaps nothing."""
    total, publishers = 10_000, 4
    path = f"/channels/{channel}"
    start = get(server.url, path).json["position"]

    def publisher(name: int) -> dict[str, str]:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        told: dict[str, str] = {}
        for number in range(total // publishers):
            data = f"{name}.{number}x"
            answer = ask(connection, "POST", path, data, {"Content-Type": "text/plain"})
            assert answer.status == 200, answer
            told[data] = answer.json["position"]
        connection.close()
        return told

    tasks = [Task(lambda name=name: publisher(name)) for name in range(publishers)]  # type: ignore[misc]
    got: list[tuple[str, str]] = []
    since = start
    while len(got) < total // 3:
        page = get(server.url, f"{path}?since={since}&wait=10").json
        assert page["recovered"]
        got += [(item["position"], item["data"]) for item in page["publications"]]
        since = page["position"]
    with Stream(server.url, path, {"Last-Event-ID": since}) as stream:
        got += [(event.id, event.data or "") for event in stream.events(total // 3)]
    since = got[-1][0]
    with ws(server.url, f"{path}?since={since}") as socket:
        epoch, _, offset = since.partition(".")
        for number in itertools.count(int(offset) + 1):
            got.append((f"{epoch}.{number}", str(socket.recv(10))))
            if len(got) == total:
                break
    told = {data: position for task in tasks for data, position in task.result().items()}
    assert got == sorted(
        ((position, data) for data, position in told.items()), key=lambda item: int(item[0].split(".")[1])
    )
    assert [position for position, _ in got] == [f"{epoch}.{number}" for number in range(1, total + 1)]
    for name in range(publishers):
        mine = [data for _, data in got if data.startswith(f"{name}.")]
        assert mine == [f"{name}.{number}x" for number in range(total // publishers)]


def test_same_idempotency_key_publishes_once(server: ServerProcess, channel: str) -> None:
    first = post(server.url, channel, "pay", Idempotency_Key="order-17")
    second = post(server.url, channel, "pay again", Idempotency_Key="order-17")
    other = post(server.url, channel, "other", Idempotency_Key="order-18")
    assert first.json == second.json != other.json
    page = get(server.url, f"/channels/{channel}?since=earliest").json
    assert [item["data"] for item in page["publications"]] == ["pay", "other"]


def test_same_idempotency_key_from_eight_connections_at_once(server: ServerProcess, channel: str) -> None:
    tasks = [Task(lambda: publish(server.url, channel, "pay", Idempotency_Key="k")) for _ in range(8)]
    assert len({task.result() for task in tasks}) == 1
    assert len(get(server.url, f"/channels/{channel}?since=earliest").json["publications"]) == 1


@pytest.mark.parametrize(
    ("content_type", "body", "told"),
    [
        ("text/plain", b"hi", {"data": "hi"}),
        ("text/plain; charset=utf-8", "grüß".encode(), {"data": "grüß"}),
        ("text/plain", b"", {"data": ""}),
        ("application/json", b'{"a": 1}', {"data": {"a": 1}}),
        ("application/ld+json", b"[1,2]", {"data": [1, 2]}),
        ("application/xml", b"<a/>", {"data": "<a/>"}),
        ("text/plain", b"42", {"data": 42}),
        ("text/plain", b'"x"', {"data": "x"}),
        ("text/plain", b"{broken", {"data": "{broken"}),
        (None, b"hi", {"data": "hi"}),
        (None, b"\xff\x00", {"data": "/wA=", "encoding": "base64"}),
        ("application/octet-stream", b"hi", {"data": "aGk=", "encoding": "base64"}),
        ("image/png", b"\x89PNG", {"data": "iVBORw==", "encoding": "base64"}),
    ],
)
def test_content_type_distinguishes_text_from_bytes(
    server: ServerProcess, channel: str, content_type: str | None, body: bytes, told: dict[str, object]
) -> None:
    assert post(server.url, channel, body, content_type).status == 200
    (item,) = get(server.url, f"/channels/{channel}?since=earliest").json["publications"]
    assert {name: item[name] for name in item if name != "position"} == told
    with ws(server.url, f"/channels/{channel}?since=earliest") as socket:
        got = socket.recv()
        assert got == (body if "encoding" in told else body.decode())
    with Stream(server.url, f"/channels/{channel}?since=earliest") as stream:
        (event,) = stream.events(1)
        assert event.event == ("bytes" if "encoding" in told else "message")
        assert event.data == (told["data"] if "encoding" in told else body.decode())


def test_sse_lines_and_json_format(server: ServerProcess, channel: str) -> None:
    position = publish(server.url, channel, "one\ntwo\r\nthree")
    with Stream(server.url, f"/channels/{channel}?since=earliest") as stream:
        assert stream.events(1) == [("message", "one\ntwo\nthree", position)]
    with Stream(server.url, f"/channels/{channel}?since=earliest&format=json") as stream:
        (event,) = stream.events(1)
        assert event.data == f'{{"position":"{position}","data":"one\\ntwo\\r\\nthree"}}'


def test_channel_names_may_hold_anything_but_commas_and_controls(server: ServerProcess) -> None:
    names = [
        "a%2Fb",
        "gr%C3%BC%C3%9Fe",
        "%F0%9F%92%AC",
        "a%20b",
        "100%25",
        "%3A",
        "x" * 255,
        "..%2f..",
        "a+b",
    ]
    for number, name in enumerate(names):
        position = publish(server.url, name, f"message {number}")
        page = get(server.url, f"/channels/{name}?since=earliest").json
        assert page["publications"] == [{"position": position, "data": f"message {number}"}], name
        with ws(server.url, f"/channels/{name}?since=earliest") as socket:
            assert socket.recv() == f"message {number}"
    # `a/b` in a query is the channel of `a%2Fb` in a path.
    assert len(get(server.url, "/channels?channel=a/b&since=earliest").json["publications"]) == 1


# -- answers that say nothing new ----------------------------------------------------------------------------


def test_not_modified_has_the_etag_and_no_body(server: ServerProcess, channel: str) -> None:
    position = publish(server.url, channel, "hi")
    for path in (f"/channels/{channel}?since={position}", f"/channels/{channel}"):
        answer = get(server.url, path, If_None_Match=f'"{position}"')
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", f'"{position}"')
        assert answer.headers["cache-control"] == "no-store"
        assert "content-type" not in answer.headers
    assert get(server.url, f"/channels/{channel}", If_None_Match=f'W/"{position}"').status == 304
    publish(server.url, channel, "more")
    assert get(server.url, f"/channels/{channel}", If_None_Match=f'"{position}"').status == 200


@pytest.mark.slow
def test_empty_long_poll_is_200_or_304(server: ServerProcess, channel: str) -> None:
    position = publish(server.url, channel, "hi")
    began = time.monotonic()
    answer = get(server.url, f"/channels/{channel}?since={position}&wait=0.3")
    assert 0.26 < time.monotonic() - began < 1
    assert answer.json == {"publications": [], "position": position, "recovered": True}
    assert (
        get(
            server.url, f"/channels/{channel}?since={position}&wait=0.1", If_None_Match=f'"{position}"'
        ).status
        == 304
    )


def test_head_is_get_without_a_body(server: ServerProcess, channel: str) -> None:
    publish(server.url, channel, "hi")
    path = f"/channels/{channel}?since=earliest"
    full, head = get(server.url, path), request(server.url, "HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert _stable(head) == _stable(full)
    assert request(server.url, "HEAD", "/health").status == 200


def test_long_page_goes_on_with_its_position(server: ServerProcess, channel: str) -> None:
    with ws(server.url, f"/channels/{channel}") as socket:
        for number in range(1001):
            socket.send(f"m{number}")
        for _ in range(1001):
            socket.recv()
    first = get(server.url, f"/channels/{channel}?since=earliest").json
    rest = get(server.url, f"/channels/{channel}?since={first['position']}").json
    assert len(first["publications"]) == 1000
    assert [item["data"] for item in rest["publications"]] == ["m1000"]


# -- headers -------------------------------------------------------------------------------------------------


def test_headers_of_a_poll_and_of_a_publish(server: ServerProcess, channel: str) -> None:
    for answer in (post(server.url, channel, "hi"), get(server.url, f"/channels/{channel}?since=earliest")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["vary"] == "Origin, Accept"
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-length"] == str(len(answer.body))
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    assert "etag" in answer.headers


def test_headers_of_a_stream(server: ServerProcess, channel: str) -> None:
    with Stream(server.url, f"/channels/{channel}") as stream:
        stream.joined()
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store, no-transform"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.headers["vary"] == "Origin, Accept"
        assert "content-length" not in stream.headers
        assert "content-encoding" not in stream.headers
        assert stream.comments == ["heartwire"]
        assert stream.retry_ms is not None
        assert 1000 <= stream.retry_ms <= 3000


def test_headers_of_errors(server: ServerProcess) -> None:
    answer = get(server.url, "/nowhere")
    assert answer.status == 404
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Origin, Accept"
    answer = request(server.url, "DELETE", "/channels/a")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST, OPTIONS")
    assert answer.error == (
        405,
        "method_not_allowed",
        "DELETE /channels/a: this address takes GET, POST, OPTIONS",
        False,
    )
    answer = request(server.url, "POST", "/channels?channel=a", "x")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, OPTIONS")


def test_keep_alive_serves_many_requests(server: ServerProcess, channel: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    sock = None
    for _ in range(5):
        ask(connection, "POST", f"/channels/{channel}", "x", {"Content-Type": "text/plain"})
        assert sock in (None, connection.sock)
        sock = connection.sock
        ask(connection, "GET", f"/channels/{channel}?since=earliest")
    connection.close()


# -- cross-origin --------------------------------------------------------------------------------------------


def test_own_origin_is_allowed(server: ServerProcess, channel: str) -> None:
    answer = post(server.url, channel, "hi", Origin=server.url)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == server.url
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-expose-headers"] == "ETag, Retry-After"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example"]
)
def test_other_origins_are_refused(server: ServerProcess, channel: str, origin: str) -> None:
    message = f"origin {origin!r} is not this server's: add it to allowed_origins"
    answers = [
        get(server.url, f"/channels/{channel}", Origin=origin),
        get(server.url, f"/channels/{channel}", Origin=origin, Accept="text/event-stream"),
        get(server.url, f"/channels/{channel}?wait=10", Origin=origin),
        get(server.url, f"/channels/{channel}/presence", Origin=origin),
        post(server.url, channel, "hi", Origin=origin),
        request(server.url, "OPTIONS", f"/channels/{channel}", headers={"Origin": origin}),
    ]
    for answer in answers:
        assert answer.error == (403, "origin_refused", message, False)
        assert "access-control-allow-origin" not in answer.headers
    assert not get(server.url, f"/channels/{channel}?since=earliest").json["publications"]


def test_preflight(server: ServerProcess, channel: str) -> None:
    headers = {
        "Origin": server.url,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "idempotency-key",
    }
    answer = request(server.url, "OPTIONS", f"/channels/{channel}", headers=headers)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == server.url
    assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "idempotency-key"
    assert answer.headers["access-control-max-age"] == "7200"
    assert answer.headers["vary"] == "Origin, Accept"
    plain = request(server.url, "OPTIONS", f"/channels/{channel}")
    assert (plain.status, plain.headers["allow"]) == (204, "GET, POST, OPTIONS")
    assert "access-control-allow-methods" not in plain.headers


# -- several channels ----------------------------------------------------------------------------------------


def test_several_channels_on_every_transport(server: ServerProcess, channel: str) -> None:
    """One position for all of them, the same on every transport and in any order of the channels."""
    a, b = f"{channel}-a", f"{channel}-b"
    path, swapped = f"/channels?channel={a}&channel={b}", f"/channels?channel={b}&channel={a}"
    start = get(server.url, path).json["position"]
    parts = start.split("~")
    assert [part.split(".")[1] for part in parts] == ["0", "0"]

    a1, b1 = publish(server.url, a, "a1"), publish(server.url, b, '{"n":1}')
    page = get(server.url, f"{path}&since={start}").json
    assert page == {
        "publications": [
            {"position": a1, "channel": a, "data": "a1"},
            {"position": b1, "channel": b, "data": {"n": 1}},
        ],
        "position": f"{a1}~{b1}",
        "recovered": True,
    }
    assert get(server.url, swapped, If_None_Match=f'"{page["position"]}"').status == 304

    poll = Task(lambda: get(server.url, f"{swapped}&since={page['position']}&wait=20&client=me"))
    until(lambda: present(server.url, b))
    b2 = publish(server.url, b, b"\x00")
    assert poll.result().json == {
        "publications": [{"position": b2, "channel": b, "data": "AA==", "encoding": "base64"}],
        "position": f"{a1}~{b2}",
        "recovered": True,
    }

    with Stream(server.url, swapped, {"Last-Event-ID": f"{a1}~{b1}"}) as stream:
        (event,) = stream.events(1)
        assert event.id == f"{a1}~{b2}"
        assert event.data == f'{{"position":"{b2}","channel":"{b}","data":"AA==","encoding":"base64"}}'
        a2 = publish(server.url, a, "a2")
        (event,) = stream.events(1)
        assert event == ("message", f'{{"position":"{a2}","channel":"{a}","data":"a2"}}', f"{a2}~{b2}")

    with ws(server.url, f"{path}&since={a1}~{b2}") as socket:
        assert socket.recv() == f'{{"since":"{a1}~{b2}","recovered":true}}'
        assert socket.recv() == f'{{"position":"{a2}","channel":"{a}","data":"a2","since":"{a2}~{b2}"}}'
        socket.send(f'{{"channel":"{b}","data":{{"n": 2}}}}')
        b3 = f"{b2.split('.')[0]}.3"
        assert socket.recv() == f'{{"position":"{b3}","channel":"{b}","data":{{"n": 2}},"since":"{a2}~{b3}"}}'
        socket.send(f'{{"channel":"{a}","data":"gA==","encoding":"base64"}}')
        a3 = f"{a2.split('.')[0]}.3"
        told = f'{{"position":"{a3}","channel":"{a}","data":"gA==","encoding":"base64","since":"{a3}~{b3}"}}'
        assert socket.recv() == told
    assert get(server.url, path, If_None_Match=f'"{a3}~{b3}"').status == 304


def test_one_channel_at_the_address_of_several(server: ServerProcess, channel: str) -> None:
    position = publish(server.url, channel, "hi")
    page = get(server.url, f"/channels?channel={channel}&since=earliest").json
    assert page["publications"] == [{"position": position, "channel": channel, "data": "hi"}]
    assert page["position"] == position


@pytest.mark.slow
def test_a_thousand_channels_in_one_request(server: ServerProcess, channel: str) -> None:
    names = [f"{channel}.{number}" for number in range(1000)]
    path = "/channels?" + "&".join(f"channel={name}" for name in names)
    with Stream(server.url, path) as stream, ws(server.url, path) as socket:
        position = publish(server.url, names[500], "hi")
        (event,) = stream.events(1)
        assert event.data == f'{{"position":"{position}","channel":"{names[500]}","data":"hi"}}'
        assert len(event.id.split("~")) == 1000
        # Where all of them start is told when it is known of all of them, which may be after the first news.
        start, news = sorted((str(socket.recv()), str(socket.recv())), key=lambda frame: '"channel"' in frame)
        assert start.endswith('","recovered":true}')
        assert f'"channel":"{names[500]}","data":"hi"' in news
        assert len(present(server.url, names[999])) == 2


# -- presence ------------------------------------------------------------------------------------------------


def test_presence_lists_each_connection_until_it_goes(server: ServerProcess, channel: str) -> None:
    assert get(server.url, f"/channels/{channel}/presence").json == {"presence": []}
    with Stream(server.url, f"/channels/{channel}") as stream:
        stream.joined()
        with ws(server.url, f"/channels/{channel}"):
            members = get(server.url, f"/channels/{channel}/presence").json["presence"]
            assert len(members) == 2
            assert all(member == {"client": member["client"], "user": ""} for member in members)
        until(lambda: len(present(server.url, channel)) == 1)
    until(lambda: not present(server.url, channel))


def test_named_poll_stays_present_and_displaces_an_older_one(server: ServerProcess, channel: str) -> None:
    path = f"/channels/{channel}?client=phone-1"
    older = Task(lambda: get(server.url, f"{path}&wait=20"))
    until(lambda: present(server.url, channel))
    (member,) = present(server.url, channel)
    newer = Task(lambda: get(server.url, f"{path}&wait=20"))
    assert older.result().error == (
        409,
        "poll_displaced",
        "a newer poll of client 'phone-1' took over",
        False,
    )
    publish(server.url, channel, "hi")
    assert len(newer.result().json["publications"]) == 1
    assert present(server.url, channel) == [member]


def test_the_name_of_a_polling_client_is_shown_to_nobody(server: ServerProcess, channel: str) -> None:
    """Who read it in presence could end the poll, and take its place."""
    path = f"/channels/{channel}?client="
    get(server.url, f"{path}phone-1")
    (member,) = present(server.url, channel)
    assert member.startswith("poll-")
    assert "phone" not in member
    for tried in (member, member.removeprefix("poll-")):
        get(server.url, f"{path}{tried}")
        assert member in present(server.url, channel)


def test_two_users_with_one_name_of_a_polling_client(channel: str, tmp_path: Path) -> None:
    """Each has a poll and a place of their own."""
    code = (
        "from heartwire import Hub\nhub = Hub()\nhub.authenticate(lambda request: request.headers['user'])\n"
    )
    (tmp_path / "polled.py").write_text(code)
    with run_server("polled:hub", engine=None, folder=tmp_path) as server:
        path = f"/channels/{channel}?wait=20&client=phone"
        ann = Task(lambda: get(server.url, path, User="ann"))

        def users() -> list[str]:
            answer = get(server.url, f"/channels/{channel}/presence", User="eve")
            return sorted(member["user"] for member in answer.json["presence"])

        until(lambda: users() == ["ann"])
        bob = Task(lambda: get(server.url, path, User="bob"))
        until(lambda: users() == ["ann", "bob"])
        assert post(server.url, channel, "hi", User="eve").status == 200
        assert [len(poll.result().json["publications"]) for poll in (ann, bob)] == [1, 1]


@pytest.mark.slow
def test_aborted_long_poll_frees_its_place() -> None:
    with run_server("--max-connections", "1") as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
        connection.request("GET", "/channels/a?wait=50")
        until(lambda: get(server.url, "/channels/a?wait=0.001").status == 503)
        connection.close()
        until(lambda: get(server.url, "/channels/a?wait=0.001").status == 200)


def _stable(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "date"}
