"""The end of a durable stream in heartwire.js."""

from collections.abc import Iterator

import pytest

from heartwire.testing.server import ServerProcess, run_server
from tests.integration.wire import request
from tests.js.runtime import Runtime
from tests.js.stories import TRANSPORTS

TEXT = {"content-type": "text/plain"}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with run_server(config="[namespaces.s]\ndurable = true\n") as server:
        yield server


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_iteration_ends_and_events_say_why(node: Runtime, server: ServerProcess, transport: str) -> None:
    channel = f"s:{transport}"
    path = f"/streams/{channel}"
    assert request(server.url, "PUT", path, "one", TEXT).status == 201
    node.run(
        """begin(url, { transports: [transport], pollIntervalS: 0.05 });
           globalThis.subscription = client.subscribe(channel, null, { since: "earliest" });
           globalThis.got = [];
           globalThis.events = [];
           for (const name of ["end", "unsubscribed"])
             subscription.on(name, what => events.push([name, what]));
           globalThis.iterated = (async () => {
             for await (const { data } of subscription) got.push(data);
             return [got, subscription.end];
           })();
           await until(() => got.length === 1);
           if (subscription.end !== "" || events.length) throw new Error("too early");""",
        url=server.url,
        transport=transport,
        channel=channel,
    )
    assert request(server.url, "POST", path, "two", TEXT | {"stream-closed": "true"}).status == 204
    iterated, events, again, state, troubles = node.run(
        """const iterated = await globalThis.iterated;
           const late = client.subscribe(channel, null, { since: "earliest" });
           const again = [];
           for await (const { data } of late) again.push(data);
           const troubles = [...heard("close"), ...heard("error"), ...heard("gap")];
           const state = client.state;
           await client.close();
           return [iterated, events, [again, late.end], state, troubles];""",
        channel=channel,
    )
    assert iterated == again == [["one", "two"], "done"]
    reason = f"{channel}: stream closed: done"
    assert events == [["end", {"reason": "done"}], ["unsubscribed", {"code": 2100, "reason": reason}]]
    assert (state, troubles) == ("online", [])
