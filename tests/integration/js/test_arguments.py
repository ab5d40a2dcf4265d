"""heartwire.js in Node: options and arguments that are wrong, and what the server refuses."""

from pathlib import Path

import pytest

from heartwire.testing.server import ServerProcess
from tests.integration.centrifugal.sdk.harness import serving
from tests.js.runtime import Runtime


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
