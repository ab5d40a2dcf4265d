"""The HTTP API for backends, in the shapes that Centrifugo's clients speak (the Python library is `cent`).

``POST /api/METHOD`` with a JSON object and the key in ``X-API-Key``. An answer is ``{"result": ...}``, or
with status 200 too ``{"error": {"code", "message"}}``; other statuses are for what is wrong with the request
itself. `docs/api.md` has the methods.
"""

import asyncio
import base64
import fnmatch
import hmac
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import metadata
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from heartwire.channels import to_channel
from heartwire.dialects.plain.codec import data_json
from heartwire.errors import HeartwireError, Refused, Unauthorized
from heartwire.hub.bus import Answers
from heartwire.hub.node import Node
from heartwire.hub.versions import Versions
from heartwire.messages import Body
from heartwire.server.api import connections
from heartwire.server.requests import read_body
from heartwire.text import check_text
from heartwire.types import Channel, Member, Position, Publication, Publisher

__all__ = ["Api"]

log = logging.getLogger("heartwire")

_BODY_MESSAGES: Final = 4
"""A request has at most so many times the largest message: base64 is longer, and a batch has several."""

_ON_BUS: Final = "api"
_ABSENT: Final = msgspec.Raw(b"")
_encode: Final = msgspec.json.encode

Result = dict[str, Any]


class _Request(msgspec.Struct, frozen=True):
    """Unknown fields are ignored, so that a newer client can talk to us."""


class _InChannel(_Request, frozen=True):
    channel: str


class _Data(_Request, frozen=True, kw_only=True):
    data: msgspec.Raw = _ABSENT
    b64data: str = ""
    idempotency_key: str = ""
    skip_history: bool = False
    tags: dict[str, str] = {}
    version: Annotated[int, Meta(ge=0)] = 0
    version_epoch: str = ""

    def body(self) -> Body:
        """The body to publish. Raises `Refused`."""
        if self.skip_history or self.tags:
            raise Refused(
                "not_available",
                "publications are always kept, and have no tags: leave out skip_history and tags",
            )
        if self.b64data:
            try:
                return Body(False, base64.b64decode(self.b64data, validate=True))
            except ValueError as error:  # also for what is not ASCII
                raise Refused("bad_request", f"b64data: {error}") from None
        if not bytes(self.data):
            raise Refused("bad_request", "data, or b64data, is missing")
        return Body(True, bytes(self.data))


class _Publish(_Data, frozen=True):
    channel: str


class _Broadcast(_Data, frozen=True):
    channels: list[str]


class _Since(_Request, frozen=True):
    offset: int = 0
    epoch: str = ""


class _History(_InChannel, frozen=True):
    limit: int = 0
    since: _Since | None = None
    reverse: bool = False


class _Channels(_Request, frozen=True):
    pattern: str = ""


class _Batch(_Request, frozen=True):
    commands: list[dict[str, msgspec.Raw]] = []
    parallel: bool = False


class _Method(NamedTuple):
    """``merge``: the other nodes are asked too; it makes one answer of theirs and this node's."""

    decoder: "msgspec.json.Decoder[Any]"
    answer: Callable[["Api", Any], Awaitable[Result]]
    merge: Callable[[Result, Answers], Result] | None


class Api:
    """The API of one hub."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._key = node.options.api_key.encode()
        self._started_at = node.clocks.monotonic()
        self._versions = Versions(lambda: node.clocks.monotonic())
        node.bus.handlers[_ON_BUS] = self._answer_node

    async def respond(self, request: Request, name: str) -> Response:
        """Answer ``POST /api/NAME``. Raises `Refused` where the request itself is wrong."""
        self._authenticate(request)
        self._node.refuse_when_draining()
        if name != "batch" and name not in _METHODS:
            raise Refused(
                "not_found", f"no method {name[:64]!r} in this API: there are batch, {', '.join(_METHODS)}"
            )
        limit = _BODY_MESSAGES * self._node.options.max_message_bytes
        body = check_text(await read_body(self._node, request, limit)) or b"{}"
        try:
            answer = await self._batch(body) if name == "batch" else await self._answer(name, body)
        except msgspec.ValidationError as error:
            answer = _error(Refused("bad_request", str(error)))
        except (msgspec.DecodeError, RecursionError) as error:
            raise Refused("bad_request", f"the body is not JSON: {error}") from None
        return Response(_encode(answer), media_type="application/json")

    def _authenticate(self, request: Request) -> None:
        if not self._key:
            raise Refused("not_found", "the HTTP API is off: set api_key")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        key = request.headers.get("x-api-key") or (given.strip() if scheme.lower() == "apikey" else "")
        key = key or request.query_params.get("api_key", "")
        if not hmac.compare_digest(key.encode(errors="replace"), self._key):
            raise Unauthorized("the API key is missing or wrong: send X-API-Key: KEY")

    async def _answer(self, name: str, body: bytes | msgspec.Raw) -> dict[str, Any]:
        method = _METHODS[name]
        request = method.decoder.decode(body)
        try:
            result = await method.answer(self, request)
            if method.merge is not None:
                result = method.merge(result, await self._node.bus.ask_all(_ON_BUS, (name, bytes(body))))
            return {"result": result}
        except HeartwireError as error:
            return _error(error)
        except Exception:
            log.exception("API method %s failed", name)
            return _error(HeartwireError("internal server error"))

    async def _answer_node(self, about: tuple[str, bytes]) -> Result:
        """The share of this node in the answer of another one, which has checked the request."""
        name, body = about
        method = _METHODS[name]
        return await method.answer(self, method.decoder.decode(body))

    async def _batch(self, body: bytes) -> dict[str, Any]:
        """Each command's reply is under its method's name, or under ``error``."""
        batch = msgspec.json.decode(body, type=_Batch)
        if not batch.parallel:
            return {"replies": [await self._command(command) for command in batch.commands]}
        return {"replies": await asyncio.gather(*map(self._command, batch.commands))}

    async def _command(self, command: dict[str, msgspec.Raw]) -> dict[str, Any]:
        name = next(iter(command), "")
        if len(command) != 1 or name not in _METHODS:
            return _error(Refused("bad_request", 'a command is {"METHOD": {...}}'))
        try:
            answer = await self._answer(name, command[name])
        except msgspec.ValidationError as error:
            return _error(Refused("bad_request", f"{name}: {error}"))
        return {name: answer["result"]} if "result" in answer else answer

    # -- streams ---------------------------------------------------------------------------------------------

    async def publish(self, request: _Publish) -> Result:
        return await self._publish(request.channel, request)

    async def broadcast(self, request: _Broadcast) -> Result:
        async def one(channel: str) -> dict[str, Any]:
            try:
                return {"result": await self._publish(channel, request)}
            except HeartwireError as error:
                return _error(error)

        return {"responses": await asyncio.gather(*map(one, request.channels))}

    async def _publish(self, channel: str, request: _Data) -> Result:
        key, name, body = request.idempotency_key or None, to_channel(channel), request.body()
        publish = partial(self._node.publishing.publish_and_wait, None, name, *body, key=key)
        if not request.version:
            return _position(await publish())
        position = await self._versions.publish(name, request.version, request.version_epoch, publish)
        if position is None:  # dropped; the head is what there is instead
            position = (await self._node.history.page(name, limit=0)).head
        return _position(position)

    async def history(self, request: _History) -> Result:
        channel = self._known(request.channel)
        offset, epoch = (request.since.offset, request.since.epoch) if request.since else (None, "")
        limit, reverse = request.limit, request.reverse
        read = self._node.history.page
        page = await read(channel, limit=limit, since_offset=offset, since_epoch=epoch, reverse=reverse)
        return {"publications": [_publication(one) for one in page.publications], **_position(page.head)}

    async def history_remove(self, request: _InChannel) -> Result:
        await self._node.remove_history(self._known(request.channel))
        return {}

    # -- presence --------------------------------------------------------------------------------------------

    async def presence(self, request: _InChannel) -> Result:
        return {"presence": {member.client: _info(member) for member in await self._members(request.channel)}}

    async def presence_stats(self, request: _InChannel) -> Result:
        members = await self._members(request.channel)
        return {"num_clients": len(members), "num_users": len({member.user for member in members})}

    async def _members(self, channel: str) -> list[Member]:
        return await self._node.presence.members(self._known(channel))

    async def channels(self, request: _Channels) -> Result:
        """Channels that somebody follows, on any node."""
        wanted = request.pattern or "*"
        topics = self._node.switchboard.topics.items()
        counts = {
            name: {"num_clients": len(topic.subscriptions)} for name, topic in topics if topic.subscriptions
        }
        return {
            "channels": {name: count for name, count in counts.items() if fnmatch.fnmatchcase(name, wanted)}
        }

    async def info(self, request: _Request) -> Result:
        """The nodes."""
        node = self._node
        topics = [topic for topic in node.switchboard.topics.values() if topic.subscriptions]
        node_info = {
            "uid": node.connections.node_id,
            "name": node.connections.node_id,
            "version": metadata.version("heartwire"),
            "num_clients": len(node.connections),
            "num_users": len({connection.identity.user for connection in node.connections}),
            "num_channels": len(topics),
            "num_subs": sum(len(topic.subscriptions) for topic in topics),
            "uptime": int(node.clocks.monotonic() - self._started_at),
        }
        return {"nodes": [node_info]}

    def _known(self, name: str) -> Channel:
        channel = to_channel(name)
        self._node.namespaces.of(channel)
        return channel


def _position(position: Position) -> Result:
    return {"offset": position.offset, "epoch": position.epoch}


def _info(who: Member | Publisher) -> Result:
    fields: Result = {"user": who.user, "client": who.client}
    if who.info:
        fields["conn_info"] = msgspec.Raw(who.info)
    if isinstance(who, Member) and who.chan_info:
        fields["chan_info"] = msgspec.Raw(who.chan_info)
    return fields


def _publication(publication: Publication) -> msgspec.Raw:
    info = b',"info":' + _encode(_info(publication.publisher)) if publication.publisher else b""
    return msgspec.Raw(
        b'{"offset":%d,%b%b}' % (publication.offset, data_json(publication.data, publication.is_text), info)
    )


def _error(error: HeartwireError) -> dict[str, Any]:
    return {"error": {"code": error.code.number or 100, "message": str(error)}}


def _confirmed(own: Result, others: Answers) -> Result:
    """The answer of a change that all nodes have made. Raises where one does not say so: to repeat it does
    no harm."""
    if others.missing:
        there = len(others.values) + 1
        raise HeartwireError(f"{there} of {there + len(others.missing)} nodes confirmed; try again")
    return own


def _all_nodes(own: Result, others: Answers) -> Result:
    nodes = [node for answer in (own, *others.values.values()) for node in answer["nodes"]]
    return _with_warnings({"nodes": nodes}, others)


def _all_channels(own: Result, others: Answers) -> Result:
    counts: Counter[str] = Counter()
    for answer in (own, *others.values.values()):
        counts.update({name: one["num_clients"] for name, one in answer["channels"].items()})
    return _with_warnings({"channels": {name: {"num_clients": n} for name, n in counts.items()}}, others)


def _with_warnings(result: Result, others: Answers) -> Result:
    """A view that some nodes are missing from says so."""
    if others.missing:
        result["warnings"] = [f"node {name} did not answer" for name in others.missing]
    return result


def _on_connections(kind: type[msgspec.Struct], answer: Callable[[Node, Any], Awaitable[Result]]) -> _Method:
    return _method(kind, lambda api, request: answer(api._node, request), _confirmed)


def _method(
    kind: type[msgspec.Struct],
    answer: Callable[[Api, Any], Awaitable[Result]],
    merge: Callable[[Result, Answers], Result] | None = None,
) -> _Method:
    return _Method(msgspec.json.Decoder(kind), answer, merge)


_METHODS: Final[dict[str, _Method]] = {
    "publish": _method(_Publish, Api.publish),
    "broadcast": _method(_Broadcast, Api.broadcast),
    "history": _method(_History, Api.history),
    "history_remove": _method(_InChannel, Api.history_remove),
    "presence": _method(_InChannel, Api.presence),
    "presence_stats": _method(_InChannel, Api.presence_stats),
    "channels": _method(_Channels, Api.channels, _all_channels),
    "info": _method(_Request, Api.info, _all_nodes),
    "subscribe": _on_connections(connections.Subscribe, connections.subscribe),
    "unsubscribe": _on_connections(connections.Unsubscribe, connections.unsubscribe),
    "disconnect": _on_connections(connections.Disconnect, connections.disconnect),
    "refresh": _on_connections(connections.Refresh, connections.refresh),
}
