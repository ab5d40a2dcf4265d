"""Kill nodes and the store, and see what is lost: ``make chaos CHAOS='--engine sqlite --seconds 60'``.

Four publishers, which try again, and eight readers, over WebSocket, SSE, long polls and polls, work with
three nodes behind a balancer. Every three seconds a node or the store is killed and started again. At the end
everybody must have everything: acknowledged publications once, in order, at the same positions, or a gap told
that accounts for them. The exit code is 1 where a promise was broken.
"""

import argparse
import sys
from collections.abc import Sequence

from tools.chaos.cuts import cuts
from tools.chaos.run import Chaos, Outcome, chaos
from tools.chaos.stores import STORES
from tools.chaos.streams import ALONE, stream_chaos

__all__ = ["main"]

_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    given = _options().parse_args(arguments)
    failed = False
    if given.streams:
        engines = [ALONE] if given.alone else [given.engine] if given.engine else [*STORES, ALONE]
        failures = [_streams(engine, given) for engine in engines]
        return 1 if any(failures) else 0
    if given.socketio:
        return 1 if any(_socketio(engine, given) for engine in ("memory", "sqlite")) else 0
    for engine in [given.engine] if given.engine else STORES:
        _say(f"{engine}: seed {given.seed}, a kill every {given.every_s:g} s for {given.seconds:g} s")
        what = Chaos(engine, given.seconds, given.every_s, given.nodes, given.rate_per_s, given.seed)
        outcome = chaos(what, _progress)
        _say(_table(outcome))
        failed |= bool(outcome.problems)
    return 1 if failed else 0


def _streams(engine: str, given: argparse.Namespace) -> bool:
    """Kill while producers append to durable streams. Returns whether a promise was broken."""
    _say(f"{engine}: seed {given.seed}, {given.rounds} rounds")
    outcome = stream_chaos(Chaos(engine, nodes=given.nodes, seed=given.seed), given.rounds, _say)
    kills = ", ".join(f"{name} {count}" for name, count in outcome.kills.items())
    _say(f"killed: {kills}; {outcome.acknowledged:,} appends, sent again {outcome.repeated} times")
    _say(_verdict(outcome.problems))
    return bool(outcome.problems)


def _socketio(engine: str, given: argparse.Namespace) -> bool:
    """Cut clients of Socket.IO off. Returns whether a promise was broken."""
    _say(f"{engine}: {given.rounds} rounds of each kind")
    seen = cuts(engine, given.rounds, _say)
    problems = [f"{one.kind}, {one.transport}: {problem}" for one in seen for problem in one.problems]
    _say(_verdict(problems))
    return bool(problems)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--engine", choices=list(STORES), help="only this store")
    parser.add_argument("--streams", action="store_true", help="producers of durable streams, in rounds")
    parser.add_argument("--socketio", action="store_true", help="clients of Socket.IO that are cut off")
    parser.add_argument("--alone", action="store_true", help="with --streams: one server, without a store")
    parser.add_argument("--rounds", type=int, default=100, metavar="N", help="of --streams (100), --socketio")
    parser.add_argument("--seconds", type=float, default=60, metavar="S", help="how long (60)")
    parser.add_argument("--every-s", type=float, default=3, metavar="S", help="between two kills (3)")
    parser.add_argument("--nodes", type=int, default=3, metavar="N", help="how many (3)")
    parser.add_argument("--rate-per-s", type=float, default=25, metavar="N", help="of each publisher (25)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="who is killed when (0)")
    return parser


def _progress(text: str, outcome: Outcome) -> None:
    counts = (
        f"{outcome.acknowledged:,} acknowledged, {outcome.delivered:,} delivered, {outcome.gaps} gaps told"
    )
    _say(f"{text:68} {counts}")


def _table(outcome: Outcome) -> str:
    lines = ["", f"{'publisher':18} {'acknowledged':>12} {'slowest':>10}"]
    lines += [
        f"{f'{one.name} {one.transport}':18} {len(one.acks):12,} {one.slowest_s:8.1f} s"
        for one in outcome.publishers
    ]
    lines += ["", f"{'reader':18} {'publications':>12} {'gaps':>10} {'connections':>12}"]
    for reader in outcome.readers:
        seen = sum(len(tale.seen) for tale in reader.tales)
        gaps = sum(len(tale.events) for tale in reader.tales) - seen
        lines.append(f"{reader.name:18} {seen:12,} {gaps:10} {reader.connections:12,}")
    kills = ", ".join(f"{name} {count}" for name, count in outcome.kills.items())
    lines += ["", f"killed: {kills}; whole {outcome.healed_s:.1f} s after the last answer"]
    return "\n".join([*lines, _verdict(outcome.problems)])


def _verdict(problems: list[str]) -> str:
    if not problems:
        return _coloured("0 lost, 0 doubled, 0 swapped, 0 invented", 32)
    shown = [f"  {problem}" for problem in problems[:_SHOWN]]
    more = [f"  and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return "\n".join([_coloured(f"{len(problems)} broken promises:", 31), *shown, *more])


def _coloured(text: str, colour: int) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if sys.stdout.isatty() else text


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
