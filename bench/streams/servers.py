"""The servers of durable streams, and where each has them."""

from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bench.servers import HEARTWIRE, SQLITE, Server, needs_node, node_peer

__all__ = ["KINDS", "Kind"]

_CONFIG: Final = '[namespaces.""]\n[namespaces.s]\ndurable = true\nmax_stream_bytes = 1073741824\n'


class Kind(NamedTuple):
    """A server, and its addresses.

    Attributes:
        stream: of a durable stream, with {} for its name.
        channel: of what is not one, to compare with; "": there is none.
        events: the query of the stream's events.
    """

    server: Server
    stream: str
    channel: str = ""
    events: str = "?offset={}&live=sse"


def _heartwire(port: int, folder: Path, engine: str = "memory") -> list[str]:
    config = folder / "heartwire.toml"
    config.write_text(_CONFIG)
    program, *more = HEARTWIRE.format(port=port, engine=engine).split()
    return [str(Path(program).absolute()), *more, "--config", str(config)]


KINDS: Final[dict[str, Kind]] = {
    "heartwire": Kind(
        Server(name="heartwire", label="Heartwire", command=_heartwire, wire={}),
        "/streams/s:{}",
        "/channels/{}",
    ),
    "sqlite": Kind(
        Server(name="sqlite", label="Heartwire, SQLite", command=partial(_heartwire, engine=SQLITE), wire={}),
        "/streams/s:{}",
        "/channels/{}",
    ),
    "reference": Kind(
        Server(
            name="reference",
            label="reference server (Node)",
            command=node_peer("node_durable_streams.mjs"),
            wire={},
            missing=needs_node("@durable-streams/server"),
        ),
        "/{}",
    ),
}
