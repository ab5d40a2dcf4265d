"""Leases of members end."""

from heartwire.engines.leases import Leases
from heartwire.testing import FakeClock
from heartwire.types import Channel, Member

A = Channel("a")


async def test_leases_that_have_expired_are_swept() -> None:
    clock = FakeClock()
    leases = Leases(clock)
    leases.lease(A, Member("c-1"), 10)
    leases.lease(A, Member("c-2"), 20)
    leases.lease(Channel("b"), Member("c-1"), 10)
    clock.advance(15)
    await leases.sweep_leases()
    assert {channel: set(held) for channel, held in leases._leases.items()} == {A: {"c-2"}}
    leases.release(A, "c-2")
    assert leases._leases == {}
