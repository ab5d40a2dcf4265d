"""Checks of the stream records of a `SharedEngine`: of nodes one wins, and the others hear of it."""

import asyncio
from typing import Final

from heartwire.core.waiting import settled
from heartwire.engines.contract import Recorded, StreamWrite
from heartwire.testing.engines.bench import A
from heartwire.testing.engines.nodes import Node, Nodes
from heartwire.testing.engines.records import change
from heartwire.testing.promises import checks_in, expect, promise
from heartwire.types import Message, Position

__all__ = ["KILLED_RECORDS", "SHARED_RECORDS"]

_ROUNDS: Final = 10


async def _write(node: Node, made: StreamWrite) -> Recorded:
    return await settled(node.engine.write(A, made))


async def a_write_is_told_and_found_on_the_other_node(nodes: Nodes) -> None:
    one, other = await nodes.start()
    for node in (one, other):
        await node.watch(A)
    revision = 0
    for turn in range(_ROUNDS):
        writer, reader = (one, other) if turn % 2 else (other, one)
        written = await _write(writer, change(revision, turn + 1, "x", "y", record=b"%d" % turn))
        revision = written.revision
        expect("a write that is answered is told on its node", writer.told_in(A)[-1], written.head.offset)
        found = await settled(reader.engine.record(A))
        expect("and found on the other", found._replace(now_ms=written.now_ms), written)
        promise((await reader.read(A)).head == written.head, "and so is what it has appended")
    every = list(range(1, 2 * _ROUNDS + 1))
    for node in (one, other):
        await nodes.until(lambda node=node: len(node.told) >= len(every))  # type: ignore[misc]
        expect("what is written is told on all nodes, once and in order", node.told_in(A), every)


async def the_origin_of_a_write_is_nobodys_on_the_other_node(nodes: Nodes) -> None:
    one, other = await nodes.start()
    for node in (one, other):
        await node.watch(A)
    await _write(one, StreamWrite(0, 1, b"", [Message(b"x", origin=7)]))
    await nodes.until(lambda: other.told and one.told)
    origins = (one.told[0].origin, other.told[0].origin)
    expect("an origin counts on the node that it is of, and is 0 on others", origins, (7, 0))


async def a_change_of_two_nodes_is_made_once(nodes: Nodes) -> None:
    one, other = await nodes.start()
    await other.watch(A)
    made = change(0, 1, "x", "y")
    first, second = await _write(one, made), await _write(other, made)
    expect("the same change on another node has the same answer", second._replace(now_ms=first.now_ms), first)
    await nodes.until(lambda: len(other.told) >= 2)
    expect("and is made once", [one.data for one in (await one.read(A)).publications], [b"x", b"y"])
    expect("and told once", other.told_in(A), [1, 2])


async def of_nodes_that_race_one_wins(nodes: Nodes) -> None:
    started = await nodes.start(3)
    revision = 0
    for turn in range(_ROUNDS):
        calls = [
            _write(node, change(revision, 10 * turn + number, f"{turn}"))
            for number, node in enumerate(started * 2, 1)
        ]
        revisions = {answer.revision for answer in await asyncio.gather(*calls)}
        promise(len(revisions) == 1, f"of nodes that race one wins, not {revisions}")
        [revision] = revisions
    for node in started:
        kept = [one.data.decode() for one in (await node.read(A)).publications]
        expect("and the others append nothing", kept, [f"{turn}" for turn in range(_ROUNDS)])


async def the_end_of_an_epoch_is_told_to_watching_nodes(nodes: Nodes) -> None:
    one, other = await nodes.start()
    await one.append(A)
    for node in (one, other):
        await node.watch(A)
    begun = await _write(one, change(0, 1, "x"))
    await nodes.until(lambda: other.removed and other.told)
    channel, position = other.removed[-1]
    expect("the beginning of a record is told", (channel, position.epoch), (A, begun.head.epoch))
    ended = await _write(other, change(1, 2, record=None))
    await nodes.until(lambda: len(one.removed) > 1)
    expect("and its end, with the position in the next epoch", one.removed[-1], (A, ended.head))
    promise(ended.head.epoch != begun.head.epoch, "which is another")
    for node in (one, other):
        expect("what was written is gone on all nodes", (await node.read(A)).publications, [])
    before = len(other.told)
    again = await _write(one, change(0, 3, "y"))
    await nodes.until(lambda: len(other.told) > before)
    expect("the next is told", other.told[-1].position, again.head)
    expect("and begins there", again.head, Position(ended.head.epoch, 1))


SHARED_RECORDS: Final = checks_in(globals())
"""The promises that need no node to be killed."""


async def a_node_that_is_killed_leaves_all_of_a_write_or_nothing(nodes: Nodes) -> None:
    killed, other = await nodes.start()
    await other.watch(A)
    first = await _write(killed, change(0, 1, "x", record=b"first"))
    killed.engine.write(A, change(1, 2, *"abcdefgh", record=b"second"))
    nodes.kill(killed)
    last = await _write(other, change(1, 3, "y", record=b"other"))
    if last.revision == 2:
        last = await _write(other, change(2, 3, "y", record=b"other"))
        expected = [b"x", *(b"%c" % letter for letter in b"abcdefgh"), b"y"]
    else:
        expected = [b"x", b"y"]
    expect("a node that lives writes on", (last.revision, last.record), (3, b"other"))
    kept = (await other.read(A)).publications
    expect("a killed node leaves all of its write or nothing", [one.data for one in kept], expected)
    expect("in one epoch", {one.epoch for one in kept}, {first.head.epoch})
    await nodes.until(lambda: last.head.offset in other.told_in(A))
    expect("and all of that is told", other.told_in(A), [one.offset for one in kept])


KILLED_RECORDS: Final = tuple(check for check in checks_in(globals()) if check not in SHARED_RECORDS)
"""The promises that hold when a node is killed."""
