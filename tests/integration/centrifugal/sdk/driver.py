"""centrifuge-python, driven by lines of JSON like `driver.mjs`. With an argument "protobuf" it speaks
that."""

import asyncio
import json
import sys
from typing import Any

from centrifuge import (
    CentrifugeError,
    Client,
    ClientEventHandler,
    ClientInfo,
    Publication,
    ReplyError,
    StreamPosition,
    Subscription,
    SubscriptionEventHandler,
)

subs: dict[str, Subscription] = {}
client: Client
is_binary = "protobuf" in sys.argv[1:]


def show(data: Any) -> Any:
    """A Protobuf client's payload as it is told: JSON, or else its bytes."""
    if not is_binary or data is None:
        return data
    try:
        return json.loads(data) if data else None
    except ValueError:
        return {"bytes": list(data)}


def payload(data: Any) -> Any:
    if not is_binary:
        return data
    return bytes(data["bytes"]) if isinstance(data, dict) and "bytes" in data else json.dumps(data).encode()


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def who(info: ClientInfo) -> dict[str, Any]:
    return {
        "user": info.user,
        "client": info.client,
        "conn": show(info.conn_info),
        "chan": show(info.chan_info),
    }


def pub(channel: str, publication: Publication) -> dict[str, Any]:
    info = publication.info
    known = {"channel": channel, "data": show(publication.data), "offset": publication.offset}
    return {**known, "info": who(info) if info and info.client else None, "tags": publication.tags or None}


def subscribed(channel: str, ctx: Any) -> dict[str, Any]:
    position: StreamPosition | None = ctx.stream_position
    return {
        "channel": channel,
        "recovered": ctx.recovered,
        "was_recovering": ctx.was_recovering,
        "positioned": ctx.positioned,
        "recoverable": ctx.recoverable,
        "position": [position.epoch, position.offset] if position else None,
        "data": show(ctx.data),
    }


class OfClient(ClientEventHandler):  # type: ignore[misc]
    async def on_connecting(self, ctx: Any) -> None:
        say({"event": "connecting", "code": ctx.code, "reason": ctx.reason})

    async def on_connected(self, ctx: Any) -> None:
        say({"event": "connected", "client": ctx.client, "version": ctx.version, "data": show(ctx.data)})

    async def on_disconnected(self, ctx: Any) -> None:
        say({"event": "disconnected", "code": ctx.code, "reason": ctx.reason})

    async def on_error(self, ctx: Any) -> None:
        say({"event": "server_error", "channel": "", "code": ctx.code, "message": str(ctx.error)})

    async def on_subscribed(self, ctx: Any) -> None:
        say({"event": "server_subscribed", **subscribed(ctx.channel, ctx)})

    async def on_unsubscribed(self, ctx: Any) -> None:
        say({"event": "server_unsubscribed", "channel": ctx.channel})

    async def on_publication(self, ctx: Any) -> None:
        say({"event": "server_publication", **pub(ctx.channel, ctx.pub)})

    async def on_join(self, ctx: Any) -> None:
        say({"event": "server_join", "channel": ctx.channel, **who(ctx.info)})

    async def on_leave(self, ctx: Any) -> None:
        say({"event": "server_leave", "channel": ctx.channel, **who(ctx.info)})


class OfSubscription(SubscriptionEventHandler):  # type: ignore[misc]
    def __init__(self, channel: str) -> None:
        self.channel = channel

    def tell(self, event: str, **told: Any) -> None:
        say({"event": event, "channel": self.channel} | told)

    async def on_subscribing(self, ctx: Any) -> None:
        self.tell("subscribing", code=ctx.code, reason=ctx.reason)

    async def on_subscribed(self, ctx: Any) -> None:
        self.tell("subscribed", **subscribed(self.channel, ctx))

    async def on_unsubscribed(self, ctx: Any) -> None:
        self.tell("unsubscribed", code=ctx.code, reason=ctx.reason)

    async def on_publication(self, ctx: Any) -> None:
        self.tell("publication", **pub(self.channel, ctx.pub))

    async def on_join(self, ctx: Any) -> None:
        self.tell("join", **who(ctx.info))

    async def on_leave(self, ctx: Any) -> None:
        self.tell("leave", **who(ctx.info))

    async def on_error(self, ctx: Any) -> None:
        self.tell("error", code=getattr(ctx.error, "code", ctx.code), message=str(ctx.error))


def options(given: dict[str, Any]) -> dict[str, Any]:
    names = {"joinLeave": "join_leave"}
    made = {names.get(name, name): value for name, value in given.items()}
    if "data" in made:
        made["data"] = payload(made["data"])
    tokens = made.pop("tokens", None)
    if tokens is not None:

        async def get_token(*_: Any) -> str:
            say({"event": "token"})
            return str(tokens.pop(0))

        made["get_token"] = get_token
    return made


async def do(command: dict[str, Any]) -> Any:
    global client
    channel, given = command.get("channel", ""), command.get("options") or {}
    match command["do"]:
        case "open":
            delays = {"min_reconnect_delay": 0.02, "max_reconnect_delay": 0.2, "proxy": None}
            client = Client(
                command["url"], events=OfClient(), use_protobuf=is_binary, **(delays | options(given))
            )
            await client.connect()
        case "ready":
            await client.ready(5)
        case "subscribe":
            for name in command["channels"]:
                await start(name, given)
            for name in command["channels"]:
                await subs[name].ready(5)
        case "start":
            await start(channel, given)
        case "unsubscribe":
            await subs[channel].unsubscribe()
        case "remove":
            client.remove_subscription(subs.pop(channel))
        case "publish":
            await client.publish(channel, payload(command["data"]))
        case "rpc":
            return show((await client.rpc(command["method"], payload(command.get("data")))).data)
        case "presence":
            return {id: who(info) for id, info in (await client.presence(channel)).clients.items()}
        case "presence_stats":
            stats = await client.presence_stats(channel)
            return [stats.num_clients, stats.num_users]
        case "history":
            since = given.pop("since", None)
            page = await client.history(channel, **given, since=StreamPosition(**since) if since else None)
            return {
                "publications": [[one.offset, show(one.data)] for one in page.publications],
                "position": [page.epoch, page.offset],
            }
        case "close":
            await client.disconnect()
    return None


async def start(channel: str, given: dict[str, Any]) -> None:
    delays = {"min_resubscribe_delay": 0.02, "max_resubscribe_delay": 0.2}
    subs[channel] = client.new_subscription(
        channel, events=OfSubscription(channel), **(delays | options(dict(given)))
    )
    await subs[channel].subscribe()


async def answer(command: dict[str, Any]) -> None:
    try:
        say({"n": command["n"], "result": await do(command)})
    except ReplyError as error:
        say({"n": command["n"], "error": {"code": error.code, "message": error.message}})
    except CentrifugeError as error:
        say({"n": command["n"], "error": {"code": -1, "message": repr(error)}})


async def main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()
    while line := await reader.readline():
        task = asyncio.ensure_future(answer(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
