"""Members and users' connections of a node, and which of their changes the store has not confirmed yet.

In: changes; which of them were stored. Out: batches of them, each key once, with its latest state. So a store
that is away costs no more memory than there are members, and a node that was given up writes all of them
again. Pure.
"""

import math
from typing import NamedTuple

from heartwire.engines.contract import Told
from heartwire.types import Channel, Member

__all__ = ["Changes", "Enter", "Leave"]


class Enter(NamedTuple):
    """A member is there for ``ttl_s``; ``inf``: as long as its node."""

    member: Member
    ttl_s: float


class Leave(NamedTuple):
    """A client is not there any more."""


Key = tuple[Channel, str]
"""A channel and a client of it."""


class Changes:
    """See the module.

    Attributes:
        members: those that live as long as the node.
        announced: members whose joins were told, and whose leaves are to be told if the node is gone.
        admitted: users' connections that count as long as the node.
    """

    def __init__(self) -> None:
        self.members: dict[Key, Member] = {}
        self.announced: dict[Key, Member] = {}
        self.admitted: dict[tuple[str, str], None] = {}
        self._owed: dict[Key, Enter | Leave] = {}
        self._dismissed: dict[tuple[str, str], None] = {}

    def __bool__(self) -> bool:
        return bool(self._owed or self._dismissed)

    def lease(self, channel: Channel, member: Member, ttl_s: float) -> None:
        key = channel, member.client
        if ttl_s == math.inf:
            self.members[key] = member
        self._owe(key, Enter(member, ttl_s))

    def release(self, channel: Channel, client: str) -> None:
        self.members.pop((channel, client), None)
        self._owe((channel, client), Leave())

    def _owe(self, key: Key, change: Enter | Leave) -> None:
        self._owed.pop(key, None)  # its place is that of the latest change
        self._owed[key] = change

    def announce(self, channel: Channel, told: Told, member: Member) -> None:
        if told == "join":
            self.announced[channel, member.client] = member
        else:
            self.announced.pop((channel, member.client), None)

    def dismiss(self, user: str, client: str) -> None:
        self.admitted.pop((user, client), None)
        self._dismissed[user, client] = None

    def admit(self, user: str, client: str) -> None:
        self.admitted[user, client] = None
        self._dismissed.pop((user, client), None)

    def all_again(self) -> None:
        """The store has forgotten this node: it owes every member."""
        for key, member in self.members.items():
            self._owed.setdefault(key, Enter(member, math.inf))

    def take(self, most: int) -> tuple[dict[Key, Enter | Leave], list[tuple[str, str]]]:
        """The oldest changes of members and dismissals, at most so many of each. They are not owed now."""
        keys = [key for key, _ in zip(self._owed, range(most), strict=False)]
        users = [one for one, _ in zip(self._dismissed, range(most), strict=False)]
        for one in users:
            del self._dismissed[one]
        return {key: self._owed.pop(key) for key in keys}, users

    def give_back(self, changes: dict[Key, Enter | Leave], dismissed: list[tuple[str, str]]) -> None:
        """They were not stored: they are owed again, unless something later is."""
        for key, change in changes.items():
            self._owed.setdefault(key, change)
        for one in dismissed:
            if one not in self.admitted:
                self._dismissed[one] = None
