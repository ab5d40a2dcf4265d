"""heartwire.js in Node: connections that are made, refused, cut, and made again over another transport."""

from pathlib import Path

import pytest

from heartwire.testing.server import ServerProcess, run_server
from tests.integration.centrifugal.sdk.harness import Relay, serving
from tests.integration.wire import publish
from tests.js.runtime import Runtime, in_node
from tests.js.stories import TRANSPORTS, talks


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
