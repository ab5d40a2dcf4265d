"""Checks of `SharedEngine`: what nodes on one store have in common, and what each hears of the others."""

import asyncio
from itertools import pairwise
from typing import Final

from heartwire.core.waiting import settled
from heartwire.engines.contract import Told
from heartwire.testing.engines.bench import KEEP, A, B, offsets_of
from heartwire.testing.engines.nodes import Node, Nodes
from heartwire.testing.promises import checks_in, expect, promise
from heartwire.types import NOW, Channel, Member, Message, Position

__all__ = ["KILLING", "SHARING"]

_ROUNDS: Final = 20


# -- streams -------------------------------------------------------------------------------------------------


async def offsets_are_shared(nodes: Nodes) -> None:
    one, other = await nodes.start()
    positions = [await node.append(A) for node in (one, other, other, one, other)]
    expect("nodes share the offsets of a stream", [at.offset for at in positions], [1, 2, 3, 4, 5])
    promise(len({at.epoch for at in positions}) == 1, f"nodes share the epoch of a stream: {positions}")


async def concurrent_appends_of_nodes_share_no_offset(nodes: Nodes) -> None:
    async def caller(node: Node, name: str) -> list[tuple[int, str]]:
        return [((await node.append(A, f"{name}{turn}")).offset, f"{name}{turn}") for turn in range(25)]

    started = await nodes.start(3)
    calls = [caller(node, f"{number}-{name}-") for number, node in enumerate(started) for name in "xy"]
    answered = [one for answers in await asyncio.gather(*calls) for one in answers]
    expect(
        "each append of a node has an offset of its own",
        sorted(at for at, _ in answered),
        list(range(1, 151)),
    )
    for node in started:
        kept = [(one.offset, one.data.decode()) for one in (await node.read(A)).publications]
        expect("every node reads what was answered", kept, sorted(answered))


async def a_key_holds_on_the_other_node(nodes: Nodes) -> None:
    one, other = await nodes.start()
    first = await one.append(A, "x", key="k")
    expect("the same key answers the first position", await other.append(A, "x", key="k"), first)
    both = await asyncio.gather(*(node.append(A, "y", key="l") for node in (one, other) for _ in range(5)))
    expect("a key used by two nodes at once is used once", {at.offset for at in both}, {2})


async def an_answered_append_is_read_on_the_other_node(nodes: Nodes) -> None:
    one, other = await nodes.start()
    for turn in range(_ROUNDS):
        position = await one.append(A, f"{turn}")
        head = (await settled(other.engine.read(A, NOW, KEEP, limit=0, max_bytes=1))).head
        expect("every later read shows an answered append, on any node", head, position)


async def heads_are_the_last_positions(nodes: Nodes) -> None:
    one, other = await nodes.start()
    positions = [(await one.append(A), await one.append(A))[1], await one.append(B)]
    empty = Channel("never used")
    expected = [*positions, (await other.read(empty)).head]
    expect("heads are where reads from now begin", await other.engine.heads([A, B, empty]), expected)


async def a_remove_holds_on_the_other_node(nodes: Nodes) -> None:
    one, other = await nodes.start()
    for node in (one, other):
        await node.watch(A)
    await one.append(A)
    removed = await settled(other.engine.remove(A))
    expect("a read on the other node", (await one.read(A)).publications, [])
    await nodes.until(lambda: one.removed)
    expect("nodes that watch are told of a removal", one.removed, [(A, removed)])
    expect("the stream goes on on any node", (await one.append(A)).offset, removed.offset + 1)


# -- the feed ------------------------------------------------------------------------------------------------


async def each_watching_node_is_told_once_in_order(nodes: Nodes) -> None:
    started = await nodes.start(3)
    for node in started:
        await node.watch(A)
    await asyncio.gather(*(node.append(A) for node in started for _ in range(20)))
    for node in started:
        await nodes.until(lambda node=node: len(node.told) >= 60)  # type: ignore[misc]
        expect(
            "a watching node is told of each publication once, in order", node.told_in(A), list(range(1, 61))
        )
        kept = (await node.read(A)).publications
        expect("what is told is what is kept", [one.data for one in node.told], [one.data for one in kept])


async def the_appending_node_is_told_before_the_answer(nodes: Nodes) -> None:
    one, _ = await nodes.start()
    await one.watch(A)
    for turn in range(1, _ROUNDS):
        await one.append(A)
        expect("told before the append is answered", one.told_in(A), list(range(1, turn + 1)))


async def nothing_is_told_of_what_nobody_watches(nodes: Nodes) -> None:
    one, other = await nodes.start()
    for channel in (A, B):
        await other.watch(channel)
    other.engine.unwatch(A)
    await other.read(A)
    await one.append(A)
    await one.append(B)
    await nodes.until(lambda: other.told)
    expect("what a node watches no more is not told", (other.told_in(A), other.told_in(B)), ([], [1]))


async def a_watch_before_a_read_leaves_no_gap(nodes: Nodes) -> None:
    one, other = await nodes.start()

    async def publish() -> None:
        for _ in range(_ROUNDS):
            await asyncio.gather(*(one.append(A) for _ in range(5)))

    publishing = asyncio.ensure_future(publish())
    joined = []
    while not publishing.done():
        before = len(other.told)
        joined.append(((await other.watch(A)).offset, before))
        await one.append(A)
        other.engine.unwatch(A)
        await other.read(A)
    await publishing
    head = await other.watch(A)
    end = (await one.append(A)).offset
    await nodes.until(lambda: end in other.told_in(A))
    expect("what follows a read that follows a watch", other.told_in(A)[-(end - head.offset) :], [end])
    told = other.told_in(A)
    for (offset, at), (_, until) in pairwise(joined):
        later = [one for one in told[at:until] if one > offset]
        expected = list(range(offset + 1, offset + 1 + len(later)))
        expect("what is told after a read that follows a watch has no hole", later, expected)


async def a_watch_tells_of_the_other_nodes_publications_at_once(nodes: Nodes) -> None:
    one, other = await nodes.start()
    for number in range(_ROUNDS):
        channel = Channel(f"c{number}")
        before = await other.watch(channel)
        expect("the head of a new stream", before.offset, 0)
        position = await one.append(channel)
        expect(
            "an empty stream's epoch is the one its first publication has",
            position,
            Position(before.epoch, 1),
        )
        await nodes.until(lambda channel=channel: other.told_in(channel))  # type: ignore[misc]


async def a_channel_that_is_left_and_watched_anew_is_told(nodes: Nodes) -> None:
    one, other = await nodes.start()
    for number in range(_ROUNDS):
        channel = Channel(f"c{number}")
        for _ in range(number % 4):
            other.engine.watch(channel)
            other.engine.unwatch(channel)
        await other.watch(channel)
        await one.append(channel)
        await nodes.until(lambda channel=channel: other.told_in(channel))  # type: ignore[misc]
        expect("a channel that was left and is watched again", other.told_in(channel), [1])


async def an_origin_is_nobodys_on_the_other_node(nodes: Nodes) -> None:
    one, other = await nodes.start()
    for node in (one, other):
        await node.watch(A)
    await one.append(A, origin=7)
    await nodes.until(lambda: other.told and one.told)
    origins = (one.told[0].origin, other.told[0].origin)
    expect("an origin counts on the node that it is of, and is 0 on others", origins, (7, 0))


# -- members -------------------------------------------------------------------------------------------------


async def a_member_is_seen_on_the_other_node(nodes: Nodes) -> None:
    one, other = await nodes.start()
    one.lease(A, "x")
    one.lease(A, "for a while", 20)
    other.lease(A, "y")
    await one.present(A)
    expect("members of all nodes are present", await other.present(A), ["for a while", "x", "y"])
    one.engine.release(A, "x")
    await one.present(A)
    expect("a released member is gone", await other.present(A), ["for a while", "y"])
    nodes.clock.advance(21)
    expect("a lease that is not renewed ends", await other.present(A), ["y"])


async def joins_and_leaves_are_told_to_watching_nodes(nodes: Nodes) -> None:
    one, other, third = await nodes.start(3)
    for node in (one, other):
        await node.watch(A)
    told: tuple[Told, ...] = ("join", "leave")
    for kind in told:
        third.engine.announce(A, kind, Member("x", "u"))
    one.engine.announce(A, "join", Member("y", "u"))
    expected = [(A, "join", "x"), (A, "join", "y"), (A, "leave", "x")]
    for node in (one, other):
        await nodes.until(lambda node=node: len(node.members) >= 3)  # type: ignore[misc]
        expect("joins and leaves are told once", sorted(node.members), expected)
    expect("nobody else is told", third.members, [])


async def the_members_of_a_node_that_stopped_are_gone(nodes: Nodes) -> None:
    one, other = await nodes.start()
    await other.watch(A)
    one.lease(A, "x")
    one.engine.announce(A, "join", Member("x", "u"))
    expect("a member", await one.present(A), ["x"])
    await nodes.leave(one)
    await nodes.until_later(lambda: other.lists_nobody(A))
    await nodes.until(lambda: len(other.members) > 1)
    expect("the leave of its member is told", other.members, [(A, "join", "x"), (A, "leave", "x")])


# -- nodes and users -----------------------------------------------------------------------------------------


async def nodes_know_each_other(nodes: Nodes) -> None:
    one, other = await nodes.start()
    names = sorted((one.engine.node, other.engine.node))
    promise(names[0] != names[1], f"nodes have names of their own, both are {names[0]!r}")
    for node in (one, other):
        expect("a node knows all that are there", sorted(await node.engine.nodes()), names)
    await nodes.leave(one)
    await nodes.until_later(other.is_alone)


async def mail_comes_in_order_to_whom_it_is_sent(nodes: Nodes) -> None:
    one, other, third = await nodes.start(3)
    for number in range(_ROUNDS):
        one.engine.send(None if number % 2 else other.engine.node, b"%d" % number)
    one.engine.send("somebody who is not there", b"lost")
    big = bytes(2_000_000)
    one.engine.send(None, big)
    for node in (other, third):
        await nodes.until(lambda node=node: big in node.mail)  # type: ignore[misc]
    every = [b"%d" % number for number in range(_ROUNDS)]
    expect("mail comes in order, each once", other.mail, [*every, big])
    expect("mail for another node does not come", third.mail, [*every[1::2], big])
    expect("a node does not send itself what it sends all others", one.mail, [])


async def user_limits_hold_over_nodes(nodes: Nodes) -> None:
    one, other = await nodes.start()
    promise(await one.engine.admit("u", "c1", 2), "the first connection of a user is admitted")
    promise(await other.engine.admit("u", "c2", 2), "so is the second where two may be")
    promise(not await other.engine.admit("u", "c3", 2), "the third of two is not admitted")
    promise(await other.engine.admit("u", "c2", 2), "one that counts is admitted again")
    promise(await other.engine.admit("v", "c4", 2), "another user's connections count for that user")
    one.engine.dismiss("u", "c1")
    await one.engine.nodes()
    promise(await other.engine.admit("u", "c3", 2), "a dismissed connection does not count")
    calls = [node.engine.admit("w", f"{number}", 3) for number, node in enumerate([one, other] * 5)]
    expect("as many at once as may be are admitted", sum(await asyncio.gather(*calls)), 3)


async def the_connections_of_a_node_that_stopped_do_not_count(nodes: Nodes) -> None:
    one, other = await nodes.start()
    promise(await one.engine.admit("u", "c1", 1), "the first connection of a user is admitted")
    await nodes.leave(one)

    async def is_admitted() -> bool:
        return await other.engine.admit("u", "c2", 1)

    await nodes.until_later(is_admitted)


SHARING: Final = checks_in(globals())
"""The promises that need no node to be killed."""


async def the_members_of_a_killed_node_are_gone(nodes: Nodes) -> None:
    killed, one, other = await nodes.start(3)
    for node in (one, other):
        await node.watch(A)
    for client in ("x", "y"):
        killed.lease(A, client)
        killed.engine.announce(A, "join", Member(client, "u"))
    expect("its members", await killed.present(A), ["x", "y"])
    promise(await killed.engine.admit("u", "x", 1), "a connection is admitted")
    for node in (one, other):
        await nodes.until(lambda node=node: len(node.members) == 2)  # type: ignore[misc]
        node.members.clear()
    nodes.kill(killed)
    await nodes.until_later(lambda: one.lists_nobody(A))
    for node in (one, other):
        await nodes.until_later(lambda node=node: node.has_heard(2))  # type: ignore[misc]
        expect("each leave is told once", sorted(node.members), [(A, "leave", "x"), (A, "leave", "y")])

    async def is_admitted() -> bool:
        return await one.engine.admit("u", "z", 1)

    await nodes.until_later(is_admitted)


async def what_a_killed_node_was_answered_is_kept(nodes: Nodes) -> None:
    killed, other = await nodes.start()
    await other.watch(A)
    answered = [await killed.append(A, f"{number}") for number in range(_ROUNDS)]
    killed.engine.append(A, Message(b"under way"), KEEP)
    nodes.kill(killed)
    last = await other.append(A, "last")
    kept = offsets_of((await other.read(A)).publications)
    expect("what was answered is kept, without holes", kept, list(range(1, last.offset + 1)))
    promise(last.offset in (len(answered) + 1, len(answered) + 2), f"an append too many: {last}")
    await nodes.until(lambda: last.offset in other.told_in(A))
    expect("and told", other.told_in(A), kept)


KILLING: Final = tuple(check for check in checks_in(globals()) if check not in SHARING)
"""The promises that hold when a node is killed."""
