"""Measure Socket.IO: ``python -m bench.socketio --repeats 3``.

Heartwire without and with recovery, beside python-socketio, socket.io for Node, and Heartwire's plain dialect
as the yardstick; the workloads are those of ``python -m bench``. One table, a line for each figure.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from bench import machine, report
from bench.build import BuildError, build
from bench.cli import choose_servers, choose_workloads, plan, run_all
from bench.places import RESULTS, ROOT
from bench.processes import raise_file_limit
from bench.results import Results, Run, Spread
from bench.servers import HEARTWIRE

YARDSTICK: Final = "heartwire"
PROGRAM: Final = "heartwire-program"
"""Its stand-in where a program publishes."""

COLUMNS: Final = {
    "heartwire-socketio": "Heartwire",
    "heartwire-socketio-recovery": "with recovery",
    "heartwire-socketio-sqlite": "with recovery, SQLite",
    "python-socketio": "python-socketio",
    "node-socketio": "socket.io (Node)",
    YARDSTICK: "Heartwire, plain dialect",
}
"""Heading by server."""


class Figure(NamedTuple):
    """One line of the table."""

    title: str
    workload: str
    of: Callable[[Run], float]


FIGURES: Final = (
    Figure("fan-out to 1,000, 8 outstanding: CPU µs per delivery", "fanout-w8", lambda run: run.cpu_us),
    Figure("fan-out to 1,000, 1 outstanding: CPU µs per delivery", "fanout-w1", lambda run: run.cpu_us),
    Figure("emit to one client: CPU µs", "each", lambda run: run.cpu_us),
    Figure("event, handler, emit to its client: CPU µs", "echo", lambda run: run.cpu_us),
    Figure("long poll, 200 clients: CPU µs per delivery", "longpoll", lambda run: run.cpu_us),
    Figure("idle connection: bytes", "idle", lambda run: run.memory_per_connection),
    Figure("connect: CPU µs", "idle", lambda run: run.cpu_us),
)


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    names = " ".join(dict.fromkeys(one.workload for one in FIGURES))
    epilog = f"workloads: {names} -- servers: {' '.join([*COLUMNS, PROGRAM])}"
    parser = argparse.ArgumentParser(prog="python -m bench.socketio", description=__doc__, epilog=epilog)
    parser.add_argument("--only", metavar="A,B", default=names.replace(" ", ","), help="these workloads")
    parser.add_argument("--peers", metavar="A,B", default=",".join([*COLUMNS, PROGRAM]), help="these servers")
    parser.add_argument("--repeats", type=int, metavar="N", default=3, help="of everything (3)")
    parser.add_argument("--seconds", type=float, metavar="S", default=1.0, help="of a run (1)")
    parser.add_argument("--heartwire", metavar="COMMAND", default=HEARTWIRE, help=f"default: {HEARTWIRE}")
    return parser.parse_args(words)


def benchmark(options: argparse.Namespace) -> Results:
    """Build, measure and save."""
    build()
    raise_file_limit()
    servers = choose_servers(options.peers, options.heartwire)
    skipped = {server.name: reason for server in servers if (reason := server.missing())}
    present = [server for server in servers if server.name not in skipped]
    jobs = plan(choose_workloads(options.only), present, options.repeats)
    results = Results(machine.facts(present), "python -m bench.socketio", options.seconds, skipped)
    path = RESULTS / f"socketio-{time.strftime('%Y%m%d-%H%M%S')}.json"
    run_all(jobs, results, path)
    print(f"\nfigures of every run: {path.relative_to(ROOT)}\n")
    return results


def table(results: Results) -> str:
    """Return medians with least and most, and how many times the plain dialect's each is."""
    measured = {YARDSTICK if run.server == PROGRAM else run.server for run in results.runs}
    shown = {name: heading for name, heading in COLUMNS.items() if name in measured}
    rows: list[list[str]] = []
    for figure in FIGURES:
        spreads = {name: _spread(results, name, figure) for name in shown}
        if any(spreads.values()):
            rows.append([figure.title, *(_cell(spreads[name], spreads.get(YARDSTICK)) for name in shown)])
    return report.table(["", *shown.values()], rows)


def _spread(results: Results, server: str, figure: Figure) -> Spread | None:
    name = PROGRAM if server == YARDSTICK and figure.workload == "each" else server
    runs = results.counted(name, figure.workload)
    return Spread.of(figure.of(run) for run in runs) if runs else None


def _cell(value: Spread | None, yardstick: Spread | None) -> str:
    if value is None:
        return "–"
    if yardstick is None or value is yardstick:
        return report.spread(value)
    return f"{report.spread(value)}, {report.number(value.middle / yardstick.middle)}×"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 where every run was complete."""
    try:
        results = benchmark(parse_arguments(sys.argv[1:] if words is None else words))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(results))
    print(f"\n{report.trouble_section(results)}")
    return 1 if any(run.trouble for run in results.runs) else 0


if __name__ == "__main__":
    sys.exit(main())
