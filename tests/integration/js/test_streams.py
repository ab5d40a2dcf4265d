"""The streams of heartwire.js in Node, against the reference server of the protocol and Heartwire, and on bad
networks: nothing lost, nothing doubled."""

import random
from collections.abc import Iterator
from typing import Final

import pytest

from heartwire.testing import FaultyNetwork
from heartwire.testing.faulty import faulty_network
from tests.js.reference import SERVERS, stream_server
from tests.js.runtime import Runtime

FAST: Final = """
globalThis.FAST ??= { backoffBaseS: 0.02, backoffCapS: 0.1, attemptBurst: 1000, attemptRatePerS: 1000,
  pingIntervalS: 0.3, pongTimeoutS: 0.2, openTimeoutS: 0.2, requestTimeoutS: 0.3 };
globalThis.at = (url, more) => heartwire.stream(url, { ...FAST, ...more });
globalThis.read = async (stream, options) => {
  const got = [];
  for await (const one of stream.read(options)) got.push(one);
  return got;
};
globalThis.MAKE = {
  "application/json": n => ({ n }),
  "text/plain": n => `é${n}\\n`,
  "application/octet-stream": n => new Uint8Array([255, n & 255, 10]),
};
/** What pieces of text or bytes make; messages as JSON. */
globalThis.whole = values => {
  if (values[0] instanceof Uint8Array) return values.map(one => [...one]).flat().join();
  return typeof values[0] === "string" ? values.join("") : JSON.stringify(values);
};
"""
KINDS: Final = ("application/json", "text/plain", "application/octet-stream")
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module", params=SERVERS)
def root(request: pytest.FixtureRequest) -> Iterator[str]:
    """Below it the streams of a server are."""
    with stream_server(request.param) as url:
        yield url


@pytest.fixture(scope="module", autouse=True)
def helpers(node: Runtime) -> None:
    """What the programs below call."""
    node.run(FAST)


@pytest.fixture
def url(root: str, channel: str) -> str:
    return f"{root}/js-{channel}"


@each_kind
def test_a_stream_from_its_creation_to_its_end(node: Runtime, url: str, kind: str) -> None:
    told = node.run(
        """const stream = at(url), make = MAKE[kind], told = [];
           told.push(await stream.create({ contentType: kind, ttlS: 60 }));
           told.push(await stream.create({ contentType: kind, ttlS: 60 }));
           const { contentType, closed, ttlS } = await stream.head();
           told.push([contentType, closed, ttlS]);
           const follower = at(url), following = read(follower), out = stream.producer();
           const offset = await out.append(make(0));
           out.append(make(1));
           out.append(make(2));
           told.push((await out.flush()) > offset);
           await stream.close(make(3));
           await stream.close();
           const expected = whole([0, 1, 2, 3].map(make));
           told.push(whole(await following) === expected, follower.closed, follower.contentType === kind);
           told.push(follower.offset === (await stream.head()).offset, stream.closed);
           told.push(whole(await read(at(url), { live: false })) === expected);
           told.push(whole(await read(at(url), { offset })) === whole([1, 2, 3].map(make)));
           told.push((await read(at(url), { offset: "now" })).length);
           await stream.delete();
           for (const call of [() => stream.delete(), () => read(follower), () => stream.head()])
             told.push(await call().catch(error => [error.name, error.reason, error.code]));
           return told;""",
        url=url,
        kind=kind,
    )
    gone = ["HeartwireError", "stream_not_found", 108]
    assert told == [True, False, [kind, False, 60], *[True] * 8, 0, gone, gone, gone]


def test_reading_goes_on_where_it_was_left(node: Runtime, url: str) -> None:
    told = node.run(
        """const stream = at(url);
           await stream.create();
           const out = stream.producer();
           for (let n = 0; n < 5; n++) out.append(n);
           await out.flush();
           const reader = at(url), got = [], offsets = [];
           for await (const one of reader) {
             got.push(one);
             offsets.push(reader.offset);
             if (one === 2) break;
           }
           got.push(...(await read(reader, { live: false })));
           return [got, offsets, reader.offset === (await stream.head()).offset];""",
        url=url,
    )
    assert told == [[0, 1, 2, 3, 4], ["-1"] * 3, True]


def test_it_ends_when_it_is_aborted(node: Runtime, url: str) -> None:
    told = node.run(
        """const stream = at(url);
           await stream.create();
           const end = new AbortController();
           const reading = read(at(url), { signal: end.signal }).catch(error => error.message);
           await stream.producer().append(1);
           end.abort(new Error("enough"));
           return [await reading, await read(at(url), { signal: end.signal }).catch(error => error.message)];""",
        url=url,
    )
    assert told == ["enough", "enough"]


def test_refusals(node: Runtime, url: str) -> None:
    told = node.run(
        """const stream = at(url, { maxMessageBytes: 100, maxPendingItems: 3 });
           const failed = call => call().then(() => "fine", error => error.reason || error.name);
           const told = [await failed(() => stream.close(1)), await failed(() => read(stream))];
           await stream.create({ contentType: "text/plain" });
           told.push(await failed(() => stream.create()));
           for (const data of [1, "", "x".repeat(101)]) {
             const bad = stream.producer();
             bad.append("before");
             bad.append(data);
             bad.append("after");
             told.push(await failed(() => bad.flush()));
           }
           const out = stream.producer();
           told.push(await failed(() => out.append("fine")));
           await out.close("the end");
           told.push(await failed(() => out.append("x")), await failed(() => stream.producer().append("x")));
           const other = at(`${url}-2`, { maxPendingItems: 3 });
           await other.create();
           const many = other.producer(), appends = [];
           for (let n = 0; n < 10; n++) appends.push(failed(() => many.append(n)));
           told.push(new Set(await Promise.all(appends)).size === 1, await failed(() => many.flush()));
           for (const name of ["a/../b", "", 7]) {
             try { heartwire.connect(url, { storage: null }).stream(name); } catch (error) { told.push(error.name); }
           }
           told.push(await failed(() => read(stream, { ofset: "1" })), (await read(stream)).join(""));
           return told;""",
        url=url,
    )
    assert told == [
        "stream_not_found",
        "stream_not_found",
        "stream_conflict",
        "TypeError",
        "TypeError",
        "HeartwireError",
        "fine",
        "stream_closed",
        "stream_closed",
        True,
        "HeartwireError",
        "TypeError",
        "TypeError",
        "TypeError",
        "TypeError",
        "finethe end",
    ]


def test_a_later_epoch_shuts_out_the_earlier(node: Runtime, url: str) -> None:
    told = node.run(
        """const stream = at(url);
           await stream.create();
           const failed = out => out.append("lost").catch(error => error.reason);
           const first = stream.producer({ id: "job" });
           await first.append("a");
           const second = stream.producer({ id: "job", epoch: 1 });
           await second.append("b");
           const told = [await failed(first)];
           const third = stream.producer({ id: "job", autoClaim: true });
           await third.append("c");
           told.push([third.id, third.epoch], await failed(second));
           told.push(await failed(stream.producer({ id: "job", epoch: 2 })));
           return [...told, await read(at(url), { live: false })];""",
        url=url,
    )
    assert told == ["stale_producer", ["job", 2], "stale_producer", "stale_producer", ["a", "b", "c"]]


def storm(network: FaultyNetwork, chance: random.Random, count: int) -> None:
    for _ in range(count):
        passed = network.bytes_up + network.bytes_down + chance.randrange(300, 1500)
        network.wait_until(lambda passed=passed: network.bytes_up + network.bytes_down > passed)  # type: ignore[misc]
        chance.choice([network.reset, network.cut, network.lose])()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "live"), [*((kind, True) for kind in KINDS), ("text/plain", "long-poll")])
def test_each_once_through_a_storm(node: Runtime, url: str, kind: str, live: bool | str) -> None:
    with faulty_network(url) as network:
        node.run(
            """const make = MAKE[kind];
               await at(there).create({ contentType: kind });
               globalThis.isCalm = false;
               const following = [1, 2].map(() => read(at(url), { live }));
               const appending = (async () => {
                 const out = at(url).producer();
                 let n = 0;
                 for (; !isCalm; n++) {
                   const answer = out.append(make(n));
                   if (n % 3) await answer;
                 }
                 await out.close(make(n));
                 return Array.from({ length: n + 1 }, (_, n) => make(n));
               })();
               globalThis.all = Promise.all([appending, ...following, appending.then(() => read(at(there)))]);
               all.catch(() => {});""",
            url=network.url,
            there=url,
            kind=kind,
            live=live,
        )
        storm(network, random.Random(f"{kind} {live}"), 10)
        told = node.run(
            "isCalm = true; const [sent, ...got] = (await all).map(whole); return got.map(one => one === sent);"
        )
    assert told == [True] * 3


def test_what_keeps_event_streams_lets_long_polls_through(node: Runtime, url: str) -> None:
    with faulty_network(url) as network:
        network.buffer_responses()
        node.run("await at(there).create(); globalThis.reading = read(at(url));", url=network.url, there=url)
        network.wait_until(lambda: network.bytes_up > 300)
        told = node.run(
            """const out = at(there).producer();
               for (const n of [0, 1, 2]) await out.append(n);
               await out.close();
               return await reading;""",
            there=url,
        )
    assert told == [0, 1, 2]


def test_giving_up(node: Runtime, url: str) -> None:
    with faulty_network(url) as network:
        append = "return await out.append('x').catch(error => [error.code, error.isUnknown]);"
        node.run(
            """await at(url).create();
               globalThis.out = at(url, { maxPendingAgeS: 0.3 }).producer();
               await out.append("kept");""",
            url=network.url,
        )
        network.black_hole()
        assert node.run(append) == [0, True]
        assert node.run(append) == [0, True]


def test_tokens_and_headers_are_for_its_own_server(node: Runtime) -> None:
    told = node.run(
        """const seen = [];
           let [current, right] = ["old", "old"];
           const fetch = async (url, { headers }) => {
             const given = new Headers(headers);
             seen.push([url, given.get("authorization"), given.get("x-tenant")]);
             const isRight = given.get("authorization") === `Bearer ${right}` || url.startsWith("http://other");
             const end = { "stream-next-offset": "9", "stream-closed": "true", "content-type": "application/json" };
             return new Response("[1]", { status: isRight ? 200 : 401, headers: end });
           };
           const options = { fetch, getToken: async () => current, headers: { "x-tenant": "t" } };
           const client = heartwire.connect("http://own/below", { ...options, storage: null });
           const told = [await read(client.stream("s")), await read(client.stream("a:b/c d", { path: "/v1/" }))];
           current = right = "new";
           told.push(await read(client.stream("s")), await read(client.stream("http://other/x?sign=1")));
           [current, right] = ["wrong", "another"];
           told.push(await read(client.stream("s")).catch(error => [error.reason, error.code]));
           await client.close();
           return [told, seen.filter(([url]) => !url.includes("/connection/"))];"""
    )
    ours = "http://own/below/streams/s?offset=-1"
    assert told == [
        [[1], [1], [1], [1], ["unauthorized", 101]],
        [
            [ours, "Bearer old", "t"],
            ["http://own/below/v1/a:b/c%20d?offset=-1", "Bearer old", "t"],
            [ours, "Bearer old", "t"],
            [ours, "Bearer new", "t"],
            ["http://other/x?sign=1&offset=-1", None, None],
            [ours, "Bearer new", "t"],
            [ours, "Bearer wrong", "t"],
        ],
    ]


def test_appends_keep_their_order_while_the_type_is_asked_for(node: Runtime) -> None:
    """Each asked for itself, and the second answer could come first."""
    told = node.run(
        """const bodies = [];
           let heads = 0;
           const fetch = async (url, { method, body }) => {
             if (method === "HEAD") {
               if (heads++ === 0) await new Promise(resolve => setTimeout(resolve, 20));
               return new Response(null, { headers: { "content-type": "application/json" } });
             }
             bodies.push(await body.text());
             return new Response(null, { headers: { "stream-next-offset": "1" } });
           };
           const out = heartwire.stream("http://host/s", { fetch }).producer();
           for (const n of [0, 1, 2]) out.append(n);
           await out.flush();
           return [heads, bodies];"""
    )
    assert told == [1, ["[0,1,2]"]]
