"""A report as a run would make it, without one: from recorded bytes and made-up moments."""

from heartwire.compare.figures import Fault, Figure, Report, Result
from heartwire.compare.meter import Beat, Reading
from heartwire.compare.plan import KINDS, Plan
from heartwire.compare.settings import notes_of, settings_of
from heartwire.compare.subscribers import Arrival
from heartwire.compare.summary import Life, cost_of, fault_of, idle_of, lane_of, news_of, parts_of, shown
from heartwire.compare.wire import Conversation, Counts
from tests.unit.compare.test_wire import POLLS, SOCKET, STREAM, whole

__all__ = ["COUNT", "made_report"]

COUNT = 100
RECORDINGS = {
    "poll-1s": POLLS,
    "poll-5s": POLLS,
    "longpoll": POLLS,
    "sse": STREAM,
    "websocket": SOCKET,
    "bare": SOCKET,
}


def counts(**parts: int) -> Counts:
    made = Counts()
    for part, size in parts.items():
        made.by_part[part] = size  # type: ignore[index]
    return made


def fault(is_bare: bool) -> Fault:
    sent = [number / 10 for number in range(COUNT)]
    late = [
        Arrival(number, at, at if at < 2 or at > 7 else 7.5)
        for number, at in enumerate(sent, 1)
        if not is_bare or at < 2
    ]
    return fault_of([Life(late, [] if is_bare else [2.5])], sent, 2.0, 7.0, 12.0)


def made_report(plan: Plan | None = None, *, has_cpu: bool = True) -> Report:
    plan = plan or Plan()
    results = {}
    for index, kind in enumerate(KINDS):
        conversation = Conversation()
        for direction, data in whole(RECORDINGS[kind.name]):
            conversation.feed(direction, data)
        arrivals = [
            Arrival(number, number / 10, number / 10 + 0.001 * 4**index) for number in range(1, COUNT + 1)
        ]
        setup = Reading(conversation.up, conversation.down, conversation.requests, 1)
        stream = Reading(counts(opaque=900), counts(opaque=9000), 0, 0)
        if not plan.is_tls:
            stream = Reading(
                counts(headers=200, payload=700), counts(headers=400, payload=8000, control=9), 10, 0
            )
        news = news_of([Life(arrivals)], COUNT)
        results[kind.name] = Result(
            label=kind.label,
            news=news,
            cost=cost_of(
                setup,
                stream,
                COUNT,
                1,
                plan.size_bytes,
                10_000_000 if has_cpu else None,
                "" if has_cpu else "not measured: why",
            ),
            setup={"up": parts_of(setup.up), "down": parts_of(setup.down)},
            stream={"up": parts_of(stream.up), "down": parts_of(stream.down)},
            idle=idle_of(kind, [Beat(counts(headers=100), counts(headers=50, payload=10))] * 3),
            lane=lane_of([], arrivals, 2.0, 8.0),
            trace=shown(conversation.pieces) if not plan.token else [],
            cut=fault(kind.name == "bare") if plan.cut_s else None,
            half_open=fault(kind.name == "bare") if plan.cut_s else None,
        )
    check = {"counted_by_proxies": Figure(10, "B"), "difference": Figure(0, "%"), "took": Figure(1, "s")}
    return Report("0", "2026-01-01 00:00 UTC", plan.url, settings_of(plan), check, notes_of(plan), results)
