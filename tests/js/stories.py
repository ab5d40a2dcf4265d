"""What heartwire.js has to do wherever it runs."""

from heartwire.testing.server import ServerProcess
from tests.integration.wire import publish
from tests.js.runtime import Runtime

__all__ = ["THROWING", "TRANSPORTS", "check_throwing", "talks"]

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


THROWING = """begin(url);
   const logged = [];
   const log = console.error;
   console.error = (...words) => logged.push(words.map(String).join(" "));
   client.on("error", () => { throw new Error("in error"); });
   client.on("message", async () => { throw new Error("later"); });
   const ended = () => { throw new Error("ended already"); };
   client.addEventListener("open", ended);
   client.removeEventListener("open", ended);
   client.addEventListener("open", { handleEvent() { throw new Error("in an object"); } });
   const got = [];
   const subscription = client.subscribe(channel, ({ data }) => {
     got.push(data);
     throw new Error(`at ${data}`);
   });
   subscription.on("subscribed", () => { throw new Error("in subscribed"); });
   await subscription.ready;
   for (const n of [1, 2]) await client.publish(channel, n);
   await until(() => got.length === 2 && heard("error").length >= 6);
   await client.close();
   console.error = log;
   return [got, heard("error").map(({ message }) => message), logged];"""


def check_throwing(answer: tuple[list[int], list[str], list[str]]) -> None:
    got, errors, logged = answer
    assert got == [1, 2]
    assert sorted(errors) == ["at 1", "at 2", "in an object", "in subscribed", "later", "later"]
    assert [words for words in logged if 'a listener of "publication" failed: Error: at 1' in words]
    assert len([words for words in logged if "in error" in words]) == len(errors)
