"""What heartwire.js has to do wherever it runs."""

from heartwire.testing.server import ServerProcess
from tests.integration.wire import publish
from tests.js.runtime import Runtime

__all__ = ["TRANSPORTS", "talks"]

TRANSPORTS = ("websocket", "sse", "longpoll", "poll")


def talks(runtime: Runtime, server: ServerProcess, transport: str) -> None:
    """It publishes and hears JSON, text and bytes, its own and those of others, in order; and asks."""
    channel = f"talk:{transport}"
    runtime.run(
        """begin(url, { transports: [transport] });
           globalThis.got = [];
           globalThis.subscription = client.subscribe(channel, one => got.push(one));
           await subscription.ready;""",
        url=server.url,
        transport=transport,
        channel=channel,
    )
    positions = runtime.run(
        """return await Promise.all([
             client.publish(channel, { text: "ä𝄞", list: [1.5, null] }),
             client.publish(channel, "ä𝄞 is text"),
             client.publish(channel, new Uint8Array([0, 1, 255])),
           ]);""",
        channel=channel,
    )
    publish(server.url, channel, "from outside: ö")
    got = runtime.run(
        """await until(() => got.length === 4);
           return got.map(one => ({ ...one, data: one.data instanceof Uint8Array ? [...one.data] : one.data }));"""
    )
    assert [one["data"] for one in got] == [
        {"text": "ä𝄞", "list": [1.5, None]},
        "ä𝄞 is text",
        [0, 1, 255],
        "from outside: ö",
    ]
    assert [one["isBytes"] for one in got] == [False, False, True, False]
    assert [one["offset"] for one in got] == [1, 2, 3, 4]
    assert [one["position"] for one in got[:3]] == positions
    assert {one["channel"] for one in got} == {channel}
    kept, position, at, state, used = runtime.run(
        """const { publications, position } = await client.history(channel, { limit: 2, since: got[0].position });
           return [publications.map(one => one.offset), position, subscription.position, client.state, client.transport];""",
        channel=channel,
    )
    assert (kept, position, at) == ([2, 3], got[3]["position"], got[3]["position"])
    assert (state, used) == ("online", transport)
    since = (
        "await client.close(); return [client.state, client.pending, heard('error'),"
        " heard('close').at(-1).code];"
    )
    assert runtime.run(since) == ["closed", 0, [], 1000]
