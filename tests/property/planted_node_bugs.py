"""Bugs of several nodes on one store, planted on purpose. See `tests.property.planted_bugs`."""

from typing import Any, Final

import pytest

from heartwire.engines.shared import SharedBase
from heartwire.engines.watches import FeedPulse, Watches
from heartwire.hub.bus import Answers, Bus
from heartwire.streams import record
from heartwire.streams.streams import Streams
from heartwire.testing.simulation.store import SharedStore
from heartwire.types import Channel
from tests.property.planted_bugs import PLANTED, planted

__all__ = ["NAMES"]


def _nobody_asks_heads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Watches, "quiet", lambda self, share: [])


@planted
def feed_loses_one_and_nobody_asks_heads(patch: pytest.MonkeyPatch) -> None:
    _nobody_asks_heads(patch)


@planted
def feed_that_is_back_is_taken_to_have_told_all(patch: pytest.MonkeyPatch) -> None:
    async def compare(self: SharedBase, channels: list[Channel]) -> int:
        return 0

    patch.setattr(SharedBase, "_compare", compare)


@planted
def silent_feed_is_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FeedPulse, "due", lambda self, now: None)


@planted
def channel_that_is_not_confirmed_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Watches, "is_overdue", lambda self, now, within_s: False)


@planted
def deaf_node_answers_from_its_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharedBase, "_update_state", lambda self, why: None)


@planted
def node_reads_before_it_watches(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Watches, "when_confirmed", lambda self, channel, call: call())


@planted
def append_is_sent_again_without_its_token(patch: pytest.MonkeyPatch) -> None:
    original = SharedStore.append

    def append(self: SharedStore, *arguments: Any) -> Any:
        self._tokens.clear()
        return original(self, *arguments)

    patch.setattr(SharedStore, "append", append)


@planted
def stale_primary_goes_on_in_the_same_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharedStore, "fenced", lambda self, channel, was: was)


@planted
def api_says_done_where_a_node_did_not_answer(patch: pytest.MonkeyPatch) -> None:
    original = Bus.ask_all

    async def ask_all(self: Bus, *arguments: Any) -> Answers:
        return (await original(self, *arguments))._replace(missing=[])

    patch.setattr(Bus, "ask_all", ask_all)


@planted
def what_a_producer_sends_again_is_new(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(record, "_duplicate", lambda producer, known: None)


@planted
def dead_run_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    async def end_lapsed(self: Streams, channel: Channel) -> bool:
        return False

    patch.setattr(Streams, "end_lapsed", end_lapsed)


NAMES: Final = tuple(name for name, plant in PLANTED.items() if plant.__module__ == __name__)
