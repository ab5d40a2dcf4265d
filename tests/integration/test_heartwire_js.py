"""heartwire.js in Node, against real servers."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from heartwire.hub.tokens import make_token
from heartwire.testing.server import ServerProcess, run_server
from tests.integration.centrifugal.sdk.app import SECRET
from tests.integration.centrifugal.sdk.harness import Relay, serving
from tests.integration.wire import publish
from tests.js.runtime import Runtime, in_node
from tests.js.stories import THROWING, TRANSPORTS, check_throwing, talks


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with run_server() as server:
        yield server


@pytest.fixture(scope="module")
def node() -> Iterator[Runtime]:
    with in_node() as runtime:
        yield runtime


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_talks(node: Runtime, server: ServerProcess, transport: str) -> None:
    talks(node, server, transport)


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_dies_costs_nothing(node: Runtime, tmp_path: Path, transport: str) -> None:
    with run_server(engine="sqlite:///hw.db", folder=tmp_path) as server:
        node.run(
            """begin(url, { transports: [transport], backoffCapS: 0.1 });
               globalThis.got = [];
               await client.subscribe("news", one => got.push(one.data)).ready;
               for (let n = 0; n < 20; n++) await client.publish("news", n);
               globalThis.all = [];
               const publish = () => {
                 for (let n = 20; n < 60; n++) all.push(client.publish("news", n));
               };
               publish();""",
            url=server.url,
            transport=transport,
        )
        server.kill()
        node.run("await until(() => client.state !== 'online');")
        server.start()
        publish(server.url, "news", "from outside")
        got, gaps, pending = node.run("""await Promise.all(all);
               await client.publish("news", "last");
               await until(() => got.at(-1) === "last");
               return [got, heard("gap"), client.pending];""")
        node.run("await client.close();")
    assert [one for one in got if isinstance(one, int)] == list(range(60))
    assert len(got) == 62
    assert (gaps, pending) == ([], 0)


@pytest.mark.slow
def test_goes_on_from_a_position_and_reports_gaps(node: Runtime) -> None:
    with run_server() as server:
        position = node.run(
            """begin(url);
               const subscription = client.subscribe("a", null, { since: "earliest" });
               await client.publish("a", 1);
               await until(() => subscription.position.endsWith(".1"));
               await client.close();
               return subscription.position;""",
            url=server.url,
        )
        for n in (2, 3):
            publish(server.url, "a", str(n))
        got = node.run(
            """begin(url);
               globalThis.got = [];
               client.subscribe("a", one => got.push(one.data), { since: position });
               await until(() => got.length === 2);
               return got;""",
            url=server.url,
            position=position,
        )
        assert got == [2, 3]
        server.restart()  # in memory: what was there is gone, and a new epoch begins
        (gap,) = node.run(
            "await until(() => heard('gap').length); await client.close(); return heard('gap');"
        )
    assert gap["before"] == position.partition(".")[0] + ".3"
    assert gap["channel"] == "a"
    assert gap["after"].partition(".")[0] != position.partition(".")[0]


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_reader_that_is_slow_gets_everything(node: Runtime, server: ServerProcess, transport: str) -> None:
    got = node.run(
        """begin(url, { transports: [transport], maxQueueItems: 10 });
           const subscription = client.subscribe(channel);
           await subscription.ready;
           const items = subscription[Symbol.asyncIterator]();
           for (let n = 0; n < 100; n++) await client.publish(channel, n);
           const got = [];
           while (got.length < 100) got.push((await items.next()).value.data);
           const after = items.next();
           subscription.unsubscribe();
           await client.close();
           return [got, await after];""",
        url=server.url,
        transport=transport,
        channel=f"slow:{transport}",
    )
    assert got == [list(range(100)), {"done": True}]


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_token_that_runs_out_is_renewed(node: Runtime, tmp_path: Path, transport: str) -> None:
    with serving(tmp_path) as server:
        stale = make_token({"sub": "42", "exp": int(time.time()) - 100}, SECRET)
        soon = int(time.time()) + 4
        tokens = [stale, make_token({"sub": "42", "exp": soon}, SECRET), make_token({"sub": "42"}, SECRET)]
        user, states, errors = node.run(
            """globalThis.asked = 0;
               begin(url, { transports: [transport], getToken: async () => tokens[Math.min(asked++, 2)] });
               await until(() => asked === 3, "three tokens");
               const { user } = await client.rpc("echo", 1);
               await client.close();
               return [user, heard("open").length, heard("error")];""",
            url=server.url,
            transport=transport,
            tokens=tokens,
        )
    assert (user, states, errors) == ("42", 1, [])


@pytest.mark.slow
def test_a_token_that_cannot_be_fetched_is_a_reported_error(node: Runtime, server: ServerProcess) -> None:
    first, state = node.run(
        """let has = false;
           begin(url, { getToken: async () => { if (!has) throw new Error("nobody is logged in"); return "t"; } });
           await until(() => heard("error").length > 1);
           const first = heard("error")[0].message;
           has = true;
           await until(() => client.state === "online" || client.state === "closed");
           const { state } = client;
           await client.close();
           return [first, state];""",
        url=server.url,
    )
    assert first == "nobody is logged in"
    assert state in ("online", "closed")  # a server without token keys may take any


@pytest.mark.slow
def test_refusals(node: Runtime, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        answers = node.run(
            """begin(url);
               const failed = promise => promise.then(() => "?", error => [error.name, error.code, error.isUnknown]);
               const subscription = client.subscribe("private:x");
               const ended = new Promise(done => subscription.once("unsubscribed", done));
               const left = client.subscribe("room:1");
               await left.ready;
               const answers = {
                 ready: await failed(subscription.ready),
                 ended: (await ended).code,
                 publish: await failed(client.publish("private:x", 1)),
                 nothing: await failed(client.publish("room:1", undefined)).then(([name]) => name),
                 rpc: await failed(client.rpc("none")),
                 once: new Set(await Promise.all([1, 2].map(n => client.publish("news:1", n, { idempotencyKey: "k" })))).size,
                 aborted: await failed(client.publish("room:1", 1, { signal: AbortSignal.abort() })).then(([name]) => name),
                 present: Object.keys(await client.presence("room:1")).length,
                 errors: heard("error"),
               };
               try { client.subscribe("room:1"); } catch (error) { answers.twice = error.message; }
               try { client.subscribe("room:2", null, { since: "here" }); } catch (error) { answers.since = error.message; }
               await client.subscribe("room:2").ready;
               const waiting = client.publish("room:1", 1);
               await client.close();
               answers.last = await waiting.then(position => position.includes("."));
               try { client.subscribe("room:3"); } catch (error) { answers.closed = error.message; }
               answers.late = await failed(client.publish("room:1", 1));
               return answers;""",
            url=server.url,
        )
    assert answers["ready"] == ["HeartwireError", 103, False]
    assert answers["ended"] == 103
    assert answers["publish"] == ["HeartwireError", 103, False]
    assert answers["nothing"] == "TypeError"
    assert answers["rpc"] == ["HeartwireError", 104, False]
    assert answers["once"] == 1
    assert answers["aborted"] == "AbortError"
    assert answers["present"] == 1
    assert answers["errors"] == []
    assert answers["twice"].startswith("room:1 is followed already")
    assert "is not a position" in answers["since"]
    assert answers["last"] is True
    assert answers["closed"] == "the client is closed"
    assert answers["late"] == ["HeartwireError", 0, False]


@pytest.mark.slow
def test_a_server_that_says_never_is_an_error_and_the_end(node: Runtime, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        errors, ended = node.run(
            """begin(url, { data: { refuse: true } });
               const subscription = client.subscribe("room:1");
               await until(() => client.state === "closed");
               const items = subscription[Symbol.asyncIterator]();
               return [heard("error"), await items.next().catch(error => error.name)];""",
            url=server.url,
        )
    assert [error["code"] in (101, 3500) for error in errors] == [True]
    assert ended == "HeartwireError"


@pytest.mark.slow
def test_without_a_websocket_it_takes_the_next_rung_and_says_so(server: ServerProcess) -> None:
    with in_node(has_websocket=False) as node:
        notes, opened, alone = node.run(
            """begin(url);
               await until(() => heard("open").length);
               await client.close();
               let alone = "";
               try { heartwire.connect(url, { transports: ["websocket"] }); } catch (error) { alone = error.message; }
               return [heard("note"), heard("open"), alone];""",
            url=server.url,
        )
    assert (notes[0]["kind"], notes[0]["transport"]) == ("unavailable", "websocket")
    assert "no WebSocket here" in notes[0]["text"]
    assert opened == [{"transport": "sse"}]
    assert "no WebSocket here" in alone


@pytest.mark.slow
def test_http_requests_are_made_with_the_fetch_that_was_given(node: Runtime, server: ServerProcess) -> None:
    asked, told = node.run(
        """const asked = [];
           let works = true;
           const spy = (address, options) => {
             asked.push(new URL(address).pathname);
             return works ? fetch(address, options) : Promise.reject(new TypeError("out of order"));
           };
           begin(url, { fetch: spy, transports: ["sse"] });
           await until(() => client.state === "online");
           works = false;
           client.publish("a", 1).catch(() => {});
           await until(() => heard("close").length);
           works = true;
           await client.close();
           return [[...new Set(asked)], heard("close")[0].reason];""",
        url=server.url,
    )
    assert asked == ["/connection/sse", "/emulation"]
    assert told == "out of order"


@pytest.mark.slow
def test_it_goes_down_the_ladder_and_up_again_without_loss(node: Runtime, server: ServerProcess) -> None:
    got, opened, gaps = node.run(
        """let works = false;
           const Picky = function (address) {
             if (works) return new WebSocket(address);
             setTimeout(() => this.onclose?.({ code: 1006, reason: "" }));
             this.close = () => {};
           };
           begin(url, { WebSocket: Picky, upgradeAfterS: 0.1 });
           const got = [];
           await client.subscribe(channel, one => got.push(one.data)).ready;
           const all = [];
           const more = count => {
             for (let n = 0; n < count; n++) all.push(client.publish(channel, all.length));
           };
           more(30);
           await until(() => heard("note").some(({ kind }) => kind === "notYet"));
           more(30);
           works = true;
           await until(() => { more(1); return client.transport === "websocket"; });
           more(30);
           await Promise.all(all);
           await until(() => got.length === all.length);
           await client.close();
           return [got, heard("open").map(one => one.transport), heard("gap")];""",
        url=server.url,
        channel="ladder",
    )
    assert got == list(range(len(got)))
    assert len(got) > 90
    assert opened == ["sse", "websocket"]
    assert gaps == []


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_network_that_is_cut_costs_nothing(node: Runtime, server: ServerProcess, transport: str) -> None:
    relay = Relay(server.port)
    channel = f"cut:{transport}"
    node.run(
        """begin(`http://127.0.0.1:${port}`, { transports: [transport] });
           globalThis.got = [];
           globalThis.all = [];
           await client.subscribe(channel, one => got.push(one.data)).ready;
           globalThis.more = () => { for (let n = 0; n < 50; n++) all.push(client.publish(channel, all.length)); };
           more();""",
        port=relay.port,
        transport=transport,
        channel=channel,
    )
    for _ in range(3):
        relay.cut()
        node.run("more(); await until(() => client.state !== 'online');")
        publish(server.url, channel, "from outside")
        relay.mend()
        node.run("more(); await until(() => client.state === 'online');")
    got, gaps = node.run("""await Promise.all(all);
           await until(() => got.length === all.length + 3);
           await client.close();
           return [got, heard("gap")];""")
    relay.close()
    assert [one for one in got if isinstance(one, int)] == list(range(350))
    assert gaps == []


@pytest.mark.slow
def test_leaving_a_loop_ends_the_subscription(node: Runtime, server: ServerProcess) -> None:
    first, second = node.run(
        """begin(url);
           await Promise.all([1, 2, 3].map(n => client.publish("loop", n)));
           const read = async since => {
             const got = [];
             const subscription = client.subscribe("loop", null, { since });
             for await (const { data } of subscription) if (got.push(data) === 2) break;
             return [got, subscription.position];
           };
           const [first, position] = await read("earliest");
           client.publish("loop", 4);
           const [second] = await read(position);
           await client.close();
           return [first, second];""",
        url=server.url,
    )
    assert (first, second) == ([1, 2], [3, 4])


@pytest.mark.slow
def test_what_worked_is_remembered(node: Runtime, server: ServerProcess) -> None:
    opened, kept = node.run(
        """const map = new Map();
           const storage = { getItem: name => map.get(name) ?? null, setItem: (name, value) => map.set(name, value) };
           begin(url, { storage, transports: ["sse"] });
           await until(() => heard("open").length);
           await client.close();
           begin(url, { storage });
           await until(() => heard("open").length);
           await client.close();
           return [heard("open")[0].transport, [...map]];""",
        url=server.url,
    )
    assert opened == "sse"
    assert kept == [[f"heartwire {server.url}", "sse"]]


def test_addresses(node: Runtime) -> None:
    found = node.run("""const { baseOf } = heartwire.internals;
           const wrong = [];
           try { baseOf("ftp://host"); } catch (error) { wrong.push(error.message); }
           return [
             ...["https://host/", "wss://host:1/below/", "ws://host"].map(baseOf),
             baseOf(new URL("http://host/a?b#c")),
             baseOf({ host: "host" }),
             baseOf({ scheme: "wss", host: "host", port: 9000, path: "/realtime/" }),
             baseOf({ host: "host", path: "realtime" }),
             ...wrong,
           ];""")
    assert found == [
        "https://host",
        "https://host:1/below",
        "http://host",
        "http://host/a",
        "http://host",
        "https://host:9000/realtime",
        "http://host/realtime",
        "ftp://host/: http, https, ws or wss",
    ]


@pytest.mark.slow
def test_the_address_of_the_environment_wins(node: Runtime, server: ServerProcess) -> None:
    opened = node.run(
        """process.env.HEARTWIRE_DEBUG_URL = url;
           begin("http://nowhere.invalid");
           delete process.env.HEARTWIRE_DEBUG_URL;
           await until(() => heard("open").length);
           await client.close();
           begin("http://nowhere.invalid", { debugUrl: url });
           await until(() => heard("open").length);
           await client.close();
           return heard("open").length;""",
        url=server.url,
    )
    assert opened == 1


def test_options_that_cannot_be(node: Runtime) -> None:
    wrong = [
        {"pingInterval": 3},
        {"tickS": 0},
        {"transports": []},
        {"pollWaitS": 56},
        {"firstTransport": "telepathy"},
    ]
    messages = node.run(
        """return wrong.map(options => {
             try { heartwire.connect("http://host", options); } catch (error) { return error.message; }
           });""",
        wrong=wrong,
    )
    names = ["pingInterval", "tickS", "transports", "pollWaitS", "firstTransport"]
    assert [name in message for name, message in zip(names, messages, strict=True)] == [True] * 5, messages


def test_options_that_do_not_exist_are_refused_by_name(node: Runtime) -> None:
    messages = node.run(
        """const fail = make => { try { make(); } catch (error) { return `${error.name}: ${error.message}`; } };
           const client = heartwire.connect("http://host");
           const late = await client.publish("a", 1, { idempotency_key: "k" }).catch(error => error.message);
           return [
             fail(() => heartwire.connect("http://host", { tokn: "t" })),
             fail(() => heartwire.connect("http://host", { ping_interval_s: 3 })),
             fail(() => client.subscribe("a", null, { colour: "red" })),
             late,
             await client.publish("a", 1, { idempotencyKey: "ü" }).catch(error => error.message),
             await client.close(),
           ];"""
    )
    assert messages == [
        'TypeError: unknown option "tokn": did you mean "token"?',
        'TypeError: unknown option "ping_interval_s": did you mean "pingIntervalS"?',
        'TypeError: unknown option "colour": the options are since, token, signal, onGap',
        'unknown option "idempotency_key": did you mean "idempotencyKey"?',
        'idempotencyKey: "ü" is not 1 to 255 visible ASCII characters',
        None,
    ]


def test_streams_are_read_wherever_they_are_cut(node: Runtime) -> None:
    lines = node.run("""const bytes = new TextEncoder().encode("data: ä𝄞\\r\\n\\ndata: {}\\n\\nrest");
           const all = [];
           for (const size of [1, 2, 3, 7, 100]) {
             const chunks = [];
             for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
             const body = new ReadableStream({
               pull: controller => (chunks.length ? controller.enqueue(chunks.shift()) : controller.close()),
             });
             const lines = [];
             for await (const group of heartwire.internals.lineGroups(body)) lines.push(...group);
             all.push(lines);
           }
           return all;""")
    assert lines == [["data: ä𝄞\r", "", "data: {}", ""]] * 5


def test_the_words_of_http_answers(node: Runtime) -> None:
    own = json.dumps({"error": {"code": "unauthorized", "message": "who?", "retry": False}})
    found = node.run(
        """const { closedByHttp } = heartwire.internals;
           return [closedByHttp(401, own), closedByHttp(503, own), closedByHttp(404, own), closedByHttp(502, "<html>")];""",
        own=own,
    )
    words = "unauthorized: who?"
    assert found == [[3500, words], [1013, words], [1006, words], [1006, "HTTP 502"]]


def test_the_types_name_what_the_module_has(node: Runtime) -> None:
    types = (Path(__file__).parents[2] / "src" / "heartwire" / "web" / "heartwire.d.ts").read_text()
    exported, options, methods = node.run("""const names = one => Object.getOwnPropertyNames(one.prototype);
           return [Object.keys(heartwire), Object.keys(heartwire.DEFAULTS), names(heartwire.Client)];""")
    told = {
        line.split()[2].rstrip(":").partition("<")[0].partition("(")[0]
        for line in types.splitlines()
        if line.startswith("export")
    }
    assert set(exported) <= told
    for name in [*options, *methods]:
        assert f"  {name}" in types or f"readonly {name}:" in types, name


def test_the_table_of_options_is_complete(node: Runtime) -> None:
    page = (Path(__file__).parents[2] / "docs" / "javascript.md").read_text()
    table = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", page.partition("## Options")[2], re.MULTILINE))
    for name, default in node.run("return Object.entries(heartwire.DEFAULTS);"):
        assert json.loads(table[name]) == default, name


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("heartwire.js", "text/javascript; charset=utf-8"), ("heartwire.d.ts", "application/typescript")],
)
def test_it_is_served_to_all_who_may(server: ServerProcess, name: str, media_type: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def get(**headers: str) -> http.client.HTTPResponse:
        connection.request("GET", f"/{name}", headers=headers)
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        return answer

    answer = get(Origin=f"http://127.0.0.1:{server.port}")
    assert (answer.status, answer.getheader("content-type")) == (200, media_type)
    assert answer.getheader("access-control-allow-origin") == f"http://127.0.0.1:{server.port}"
    assert answer.getheader("cache-control") == "no-cache"
    assert get(**{"If-None-Match": str(answer.getheader("etag"))}).status == 304
    assert get(Origin="https://elsewhere.example").status == 403
    connection.close()


def test_arguments_that_cannot_be_sent_cost_only_their_call(node: Runtime, server: ServerProcess) -> None:
    """Half an emoji, a value of the wrong type, NaN: each closed the connection for good, or was sent again on
    each new one, and held up what others had to say; NaN arrived as null."""
    told, got, closes = node.run(
        """begin(url);
           const half = "😀".slice(0, 1);
           const told = {};
           const fails = async calls => {
             for (const [name, call] of Object.entries(calls))
               told[name] = await (async () => call())().then(() => "fine", error => error.name);
           };
           const got = [];
           await client.subscribe(channel, ({ data }) => got.push(data)).ready;
           await fails({
             channelIsNumber: () => client.publish(42, 1),
             channelIsMissing: () => client.publish(undefined, 1),
             channelIsHalf: () => client.publish(half, 1),
             channelIsEmpty: () => client.publish("", 1),
             channelIsLong: () => client.publish("ü".repeat(128), 1),
             channelHasControl: () => client.publish("a\\nb", 1),
             textIsHalf: () => client.publish(channel, half),
             jsonIsHalf: () => client.publish(channel, { deep: [half] }),
             nameIsHalf: () => client.publish(channel, { [half]: 1 }),
             nan: () => client.publish(channel, { deep: [NaN] }),
             infinity: () => client.publish(channel, -Infinity),
             boxed: () => client.publish(channel, [new Number(NaN)]),
             bigint: () => client.publish(channel, 1n),
             key: () => client.publish(channel, 1, { idempotencyKey: 7 }),
             bigKey: () => client.publish(channel, 1, { idempotencyKey: 7n }),
             signal: () => client.publish(channel, 1, { signal: {} }),
             limit: () => client.history(channel, { limit: 1.5 }),
             limitIsNegative: () => client.history(channel, { limit: -1 }),
             reverse: () => client.history(channel, { reverse: "yes" }),
             since: () => client.history(channel, { since: 7 }),
             history: () => client.history(half),
             presence: () => client.presence(7),
             rpcIsNumber: () => client.rpc(7),
             rpcIsHalf: () => client.rpc(half),
             rpcData: () => client.rpc("echo", { deep: half }),
             rpcNan: () => client.rpc("echo", NaN),
             rpcFunction: () => client.rpc("echo", () => {}),
             subscribe: () => client.subscribe(undefined),
             subscribeIsHalf: () => client.subscribe(half),
             callback: () => client.subscribe("other", "callback"),
             onGap: () => client.subscribe("other", null, { onGap: 7 }),
             token: () => client.subscribe("other", null, { token: half }),
             aborting: () => client.subscribe("other", null, { signal: {} }),
             ofClient: () => heartwire.connect(url, { token: half }),
             getToken: () => heartwire.connect(url, { getToken: "t" }),
             data: () => heartwire.connect(url, { data: { n: NaN } }),
             headers: () => heartwire.connect(url, { headers: { "x-a": "b\\nc" } }),
           });
           const fine = [null, ["null"], "\\\\ud800", { text: "😀", none: null }, [1.5, -0.25]];
           for (const one of fine) await client.publish(channel, one);
           await client.subscribe("other").ready;
           await until(() => got.length >= fine.length);
           await client.close();
           return [told, got, heard("close").length];""",
        url=server.url,
        channel="arguments",
    )
    assert {name: what for name, what in told.items() if what != "TypeError"} == {}
    assert got == [None, ["null"], "\\ud800", {"text": "😀", "none": None}, [1.5, -0.25]]
    assert closes == 1


def test_a_token_that_is_no_text_is_an_error_and_no_message(node: Runtime) -> None:
    """A function that gives half a character for a token had the client send what no server reads."""
    messages = node.run(
        """begin("http://127.0.0.1:9", { getToken: () => "😀".slice(1) });
           await until(() => heard("error").length);
           await client.close();
           return heard("error").map(({ message }) => message);"""
    )
    assert "the answer of getToken" in messages[0]


def test_a_listener_that_throws_is_an_error_event(node: Runtime, server: ServerProcess) -> None:
    """A callback that threw, or an async one, ended the process of Node."""
    check_throwing(node.run(THROWING, url=server.url, channel="throwing"))


def test_a_wait_that_a_server_asks_for_has_a_limit(node: Runtime) -> None:
    """`Retry-After: 99999999` had a client stay away for three years."""
    waits = node.run(
        """const waits = [];
           for (const after of ["99999999", "-5", "1e3", "7", "soon"]) {
             const headers = { "retry-after": after };
             const fetch = async () => new Response("", { status: 503, headers });
             begin("http://127.0.0.1:9", { transports: ["poll"], fetch, laterS: 0.1 });
             await until(() => heard("close").length);
             waits.push(Math.round(heard("close")[0].nextAttemptS));
             await client.close();
           }
           return waits;"""
    )
    assert (waits[0], waits[3]) == (3600, 7)
    assert max(waits[1], waits[2], waits[4]) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_message_too_large_for_its_frame_costs_only_its_call(
    node: Runtime, server: ServerProcess, transport: str
) -> None:
    """Characters of the data were counted, where the server counts bytes of the whole frame: a message just
    under the limit, or one of umlauts, cost the connection."""
    codes, lengths, closes = node.run(
        """begin(url, { transports: [transport] });
           const lengths = [];
           await client.subscribe(channel, ({ data }) => lengths.push(data.length)).ready;
           const code = promise => promise.then(() => 0, error => error.code);
           const texts = ["x".repeat(1_048_573), "ü".repeat(600_000), "😀".repeat(270_000), ["ü".repeat(600_000)]];
           const codes = [];
           for (const text of texts) codes.push(await code(client.publish(channel, text)));
           codes.push(await code(client.publish(channel, new Uint8Array(786_400))));
           codes.push(await code(client.rpc("none", "ü".repeat(600_000))));
           codes.push(await code(client.publish(channel, "x".repeat(1_048_576 - 250))));
           codes.push(await code(client.publish(channel, "ü".repeat(524_288 - 125))));
           await until(() => lengths.length === 2);
           const closes = heard("close").length;
           await client.close();
           return [codes, lengths, closes];""",
        url=server.url,
        transport=transport,
        channel=f"large:{transport}",
    )
    assert codes == [106] * 6 + [0, 0]
    assert (lengths, closes) == ([1_048_576 - 250, 524_288 - 125], 0)


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_large_integers_can_be_read_as_they_came(
    node: Runtime, server: ServerProcess, transport: str
) -> None:
    """An integer over 2^53 came changed, and there was no way to see what had been published."""
    large = '{"n":9007199254740993}'
    channel = f"integers:{transport}"
    publish(server.url, channel, large)
    found, own = node.run(
        """begin(url, { transports: [transport] });
           const found = [];
           const subscription = client.subscribe(channel, one => found.push(one.json), { since: "earliest" });
           await subscription.ready;
           await client.publish(channel, ["ä\\\\\\"]}", { data: 1 }]);
           await until(() => found.length === 2);
           const { publications } = await client.history(channel);
           await client.close();
           return [[...found, ...publications.map(({ json }) => json)], Object.keys(publications[0])];""",
        url=server.url,
        transport=transport,
        channel=channel,
    )
    other = json.dumps(['ä\\"]}', {"data": 1}], ensure_ascii=False, separators=(",", ":"))
    assert found == [large, other] * 2
    assert "json" not in own  # a copy of a publication is as large as before


def test_the_text_of_a_value_is_found_in_json(node: Runtime) -> None:
    texts = node.run(
        r"""const { sourceOf } = heartwire.internals;
            const line = ' { "a" : [ 1 , {"b\\"]":[]}, "x,]\\"" , 1e2,{ }, null ] ,"d" : 12 , "\\u0064":{"d":-0.0}}';
            const of = (...path) => sourceOf(line, path);
            return [of("a", 0), of("a", 1), of("a", 1, 'b"]'), of("a", 2), of("a", 3), of("a", 4), of("a", 5),
                    of("d"), of("d", "d"), of("none"), of(), sourceOf("7", [])];"""
    )
    whole = '{ "a" : [ 1 , {"b\\"]":[]}, "x,]\\"" , 1e2,{ }, null ] ,"d" : 12 , "\\u0064":{"d":-0.0}}'
    assert texts == [
        "1",
        '{"b\\"]":[]}',
        "[]",
        '"x,]\\""',
        "1e2",
        "{ }",
        "null",
        '{"d":-0.0}',
        "-0.0",
        "null",
        whole,
        "7",
    ]
