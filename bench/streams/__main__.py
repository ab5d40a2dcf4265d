"""Measure durable streams: ``python -m bench.streams --only append,events --repeats 3``.

Workloads: ``append`` (20 connections, each to its own stream, beside plain publishes), ``events`` (1,000
readers of one event stream, beside plain server-sent events), ``catch_up`` (32 MiB by one reader: the
server's memory), ``stalled`` (1,000 readers that stop reading). CPU is the server's, of one core.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.places import WORK as FOLDER
from bench.places import make_ignored
from bench.processes import RunError, choose_cores, raise_file_limit, running
from bench.streams.servers import KINDS
from bench.streams.work import WORK, Figures


def main(words: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 where all that was measured is complete."""
    given = _options().parse_args(words)
    raise_file_limit()
    make_ignored(FOLDER)
    rows: list[dict[str, Any]] = []
    failed = False
    for workload in given.only:
        for repeat in range(given.repeats):
            for name in given.kinds:
                if repeat == 0 and (reason := KINDS[name].server.missing()):
                    print(f"{name}: skipped: {reason}")
                if KINDS[name].server.missing():
                    continue
                try:
                    rows.append(
                        {"workload": workload, "kind": name, **_measure(workload, name, given.seconds)}
                    )
                    print(rows[-1], flush=True)
                except (RunError, OSError, AssertionError, TimeoutError) as error:
                    failed = True
                    print(f"{workload} {name}: failed: {error!r}", flush=True)
    print("\n" + _table(rows))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if failed else 0


def _options() -> argparse.ArgumentParser:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(
        prog="python -m bench.streams",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", type=names, default=list(WORK), metavar="A,B", help=f"of {','.join(WORK)}")
    parser.add_argument(
        "--kinds", type=names, default=list(KINDS), metavar="A,B", help=f"of {','.join(KINDS)}"
    )
    parser.add_argument("--seconds", type=float, default=3, help="of one measurement (3)")
    parser.add_argument("--repeats", type=int, default=3, help="of each, taken in turn (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser


def _measure(workload: str, name: str, seconds: float) -> Figures:
    kind, cores = KINDS[name], choose_cores()
    with running(kind.server, cores) as (port, pids):
        return asyncio.run(WORK[workload](kind, pids[0], port, seconds))


def _table(rows: list[dict[str, Any]]) -> str:
    """Medians, with the least and the most."""
    lines = ["| workload | server | figure | median | least | most |", "|---|---|---|---|---|---|"]
    for workload, kind in dict.fromkeys((row["workload"], row["kind"]) for row in rows):
        own = [row for row in rows if (row["workload"], row["kind"]) == (workload, kind)]
        for figure in own[0].keys() - {"workload", "kind"}:
            values = [row[figure] for row in own]
            numbers = f"{median(values):.1f} | {min(values):.1f} | {max(values):.1f}"
            lines.append(f"| {workload} | {KINDS[kind].server.label} | {figure} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
