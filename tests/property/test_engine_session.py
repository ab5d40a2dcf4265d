"""The Engine.IO session under all interleavings, and with bugs that they have to find."""

from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from heartwire.dialects.socketio.engine_io import Parcel
from heartwire.dialects.socketio.engine_ports import Reply, Socket
from heartwire.dialects.socketio.engine_session import EngineSession
from tests.property.engine_session_machine import EngineSessionMachine

TestEngineSession = EngineSessionMachine.TestCase
TestEngineSession.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class ForgetsWhatWaits(EngineSession):
    """The upgrade drops what no poll has taken."""

    def _upgrade(self, socket: Socket) -> None:
        self._waiting.parcels.clear()
        super()._upgrade(socket)


class SendsTwice(EngineSession):
    """What a poll has taken waits for the next, too."""

    def _taken(self) -> bytes:
        parcels = list(self._waiting.parcels)
        body = super()._taken()
        if len(parcels) > 1:
            self._waiting.add(parcels[-1])
        return body


class HoldsTwoPolls(EngineSession):
    """A second poll takes the place of the first."""

    def poll(self, reply: Reply) -> None:
        if self._poll is not None and not self.is_over:
            self._poll = reply
            return
        super().poll(reply)


class TellsTheEndTwice(EngineSession):
    """A connection that is lost while its end waits for a poll ends again."""

    def lose(self, reason: str, why: str = "") -> None:
        was_over = self.is_over and self.transport == "polling" and self._timer is not None
        super().lose(reason, why)
        if was_over:
            self.handler.closed(reason)


class OvertakesPolls(EngineSession):
    """While a WebSocket is about to take over, messages go by it already."""

    def send(self, parcel: Parcel) -> None:
        if self._probe is not None and self.is_probed and not self.is_over:
            self._probe.send(parcel)
        else:
            super().send(parcel)


@pytest.mark.parametrize(
    "broken", [ForgetsWhatWaits, SendsTwice, HoldsTwoPolls, TellsTheEndTwice, OvertakesPolls]
)
def test_planted_bugs_are_found(broken: type[EngineSession]) -> None:
    class Machine(EngineSessionMachine):
        session_class = broken

    options: dict[str, Any] = {"max_examples": 2000, "stateful_step_count": 30, "database": None}
    options["phases"] = [Phase.generate]  # what is found need not be made small
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever invariant finds it
        run_state_machine_as_test(
            Machine, settings=settings(**options, deadline=None, report_multiple_bugs=False)
        )
