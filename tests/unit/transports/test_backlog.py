"""What a full link owes, and whether it shrinks."""

from heartwire.transports.backlog import MAX_OWED_BYTES, Backlog


def test_it_shrinks_only_by_what_the_peer_takes() -> None:
    backlog = Backlog(60_000)
    assert not backlog.has_shrunk(60_000)
    assert backlog.has_shrunk(59_000)
    backlog.look(59_000)
    assert not backlog.has_shrunk(59_000)
    backlog.owe(5_000, 58_000)
    assert backlog.has_shrunk(63_000), "1,000 were taken, 5,000 written"


def test_what_is_owed_has_a_bound_and_publications_do_not_count() -> None:
    backlog = Backlog(8 * MAX_OWED_BYTES)
    assert backlog.owe(MAX_OWED_BYTES, 8 * MAX_OWED_BYTES)
    assert not backlog.owe(1, 8 * MAX_OWED_BYTES)


def test_what_the_peer_has_taken_is_not_owed() -> None:
    """A slow reader may stay full for hours."""
    backlog = Backlog(1000)
    for _ in range(100):
        assert backlog.owe(MAX_OWED_BYTES // 2, 1000)


async def test_those_who_wait_go_on_when_it_has_drained() -> None:
    backlog = Backlog(1)
    drained = backlog.drained()
    assert not drained.done()
    backlog.end()
    backlog.end()
    await drained
