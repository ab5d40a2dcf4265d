"""heartwire.js in Node: what is published and heard, and what listeners do with it."""

import json

import pytest

from heartwire.testing.server import ServerProcess, run_server
from tests.integration.wire import publish
from tests.js.runtime import Runtime
from tests.js.stories import THROWING, TRANSPORTS, check_throwing


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


def test_a_listener_that_throws_is_an_error_event(node: Runtime, server: ServerProcess) -> None:
    """A callback that threw, or an async one, ended the process of Node."""
    check_throwing(node.run(THROWING, url=server.url, channel="throwing"))


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
