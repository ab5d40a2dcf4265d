"""Phases of an HTTP connection: which it is in, how long each may last, what the deadline does."""

import math

import pytest

from heartwire.transports.http.phases import HttpTimes, Phase, Verdict, limit_s, phase_of, verdict

TIMES = HttpTimes(head_s=1, body_s=2, idle_s=4, write_s=8)


@pytest.mark.parametrize(
    ("unread", "head", "body", "owed", "phase"),
    [
        (False, False, False, False, Phase.IDLE),
        (False, False, False, True, Phase.ANSWER),
        (False, False, True, False, Phase.BODY),
        (False, True, False, False, Phase.HEAD),
        (False, True, False, True, Phase.HEAD),
        (True, True, True, True, Phase.UNREAD),
    ],
)
def test_phase(unread: bool, head: bool, body: bool, owed: bool, phase: Phase) -> None:
    assert phase_of(is_unread=unread, is_in_head=head, is_in_body=body, is_owed=owed) is phase


def test_each_phase_has_its_time() -> None:
    assert {phase: limit_s(phase, TIMES) for phase in Phase} == {
        Phase.HEAD: 1,
        Phase.BODY: 7,  # the application's refusal comes first
        Phase.ANSWER: math.inf,
        Phase.IDLE: 4,
        Phase.UNREAD: 8,
    }


@pytest.mark.parametrize(
    ("unsent_bytes", "silent_s", "what"),
    [(0, 0, Verdict.CLOSE), (0, 99, Verdict.CLOSE), (1, 7, Verdict.GO_ON), (1, 8, Verdict.CUT)],
)
def test_deadline(unsent_bytes: int, silent_s: float, what: Verdict) -> None:
    assert verdict(unsent_bytes, silent_s, TIMES) is what
