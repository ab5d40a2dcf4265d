"""Members whose changes a store has not confirmed: each once, in its latest state."""

import math

from heartwire.engines.changes import Changes, Enter, Leave
from heartwire.types import Channel, Member

A = Channel("a")
ANN, BOB = Member("c-1", "ann"), Member("c-2", "bob")


def test_the_latest_change_of_a_member_counts() -> None:
    changes = Changes()
    changes.lease(A, ANN, math.inf)
    changes.release(A, "c-1")
    changes.lease(A, BOB, 20)
    assert changes
    assert changes.take(9) == ({(A, "c-1"): Leave(), (A, "c-2"): Enter(BOB, 20)}, [])
    assert not changes


def test_what_was_not_stored_is_owed_again_unless_something_later_is() -> None:
    changes = Changes()
    for member in (ANN, BOB):
        changes.lease(A, member, math.inf)
    taken, _ = changes.take(9)
    changes.release(A, "c-1")
    changes.give_back(taken, [])
    assert changes.take(9)[0] == {(A, "c-1"): Leave(), (A, "c-2"): Enter(BOB, math.inf)}


def test_a_node_that_was_given_up_owes_all_members_that_live_as_long_as_it() -> None:
    changes = Changes()
    changes.lease(A, ANN, math.inf)
    changes.lease(A, BOB, 20)
    changes.take(9)
    changes.all_again()
    assert changes.take(9)[0] == {(A, "c-1"): Enter(ANN, math.inf)}


def test_batches_are_bounded() -> None:
    changes = Changes()
    for number in range(7):
        changes.lease(A, Member(f"{number}"), math.inf)
        changes.dismiss("u", f"{number}")
    sizes = [tuple(map(len, changes.take(3))) for _ in range(3)]
    assert sizes == [(3, 3), (3, 3), (1, 1)]


def test_a_connection_that_was_dismissed_and_admitted_again_counts() -> None:
    changes = Changes()
    changes.admit("u", "c-1")
    changes.dismiss("u", "c-1")
    _, dismissed = changes.take(9)
    changes.admit("u", "c-1")
    changes.give_back({}, dismissed)
    assert (changes.take(9), list(changes.admitted)) == (({}, []), [("u", "c-1")])


def test_whose_leave_is_to_be_told() -> None:
    changes = Changes()
    changes.announce(A, "join", ANN)
    changes.announce(A, "join", BOB)
    changes.announce(A, "leave", ANN)
    assert changes.announced == {(A, "c-2"): BOB}
