"""Measure nodes on one store: ``python -m bench.nodes --only deliver,whole --kinds valkey --nodes 1,2,4``.

Workloads: ``deliver`` (100 messages a second: waits on the same and on another node), ``cost`` (8 messages
outstanding: CPU of nodes and store), ``fanout`` (1 channel, 1,000 connections a node), ``interest`` (10,000
channels of one connection each), ``whole`` (100,000 followed channels, and a restart of the store). All
servers and the load share this machine's cores: compare the rows, not the figures of two machines.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.nodes import work
from bench.nodes.deployments import KINDS, Kind
from bench.nodes.whole import whole
from bench.processes import raise_file_limit
from tools.chaos.stores import STORES

_WORK: Final = {"deliver": work.deliver, "cost": work.cost, "fanout": work.fanout, "interest": work.interest}
_ALL: Final = [*_WORK, "whole"]
_OWN_ONLY: Final = ("interest", "whole")
"""One room is all that python-socketio's peer has."""

Row = dict[str, Any]


def main(words: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 where all that was measured is complete."""
    given = _options().parse_args(words)
    raise_file_limit()
    kinds = {name: KINDS[name] for name in given.kinds}
    for name, kind in list(kinds.items()):
        if reason := kind.missing():
            print(f"{name}: skipped: {reason}")
            del kinds[name]
    rows: list[Row] = []
    for workload in given.only:
        for nodes in [1] if workload == "whole" else given.nodes:
            for name, kind in kinds.items():
                if workload not in _OWN_ONLY or name in STORES:
                    rows.append(_measure(workload, nodes, name, kind, given))
                    print(_line(rows[-1]), flush=True)
    print("\n" + _tables(rows))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if any("failure" in row for row in rows) else 0


def _options() -> argparse.ArgumentParser:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(
        prog="python -m bench.nodes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", type=names, default=_ALL, metavar="A,B", help=f"of {','.join(_ALL)}")
    parser.add_argument(
        "--kinds", type=names, default=list(KINDS), metavar="A,B", help=f"of {','.join(KINDS)}"
    )
    parser.add_argument("--nodes", type=lambda text: [int(one) for one in text.split(",")], default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, default=3, help="of one measurement (3)")
    parser.add_argument("--subscribers", type=int, default=1000, help="of fanout, a node (1000)")
    parser.add_argument("--channels", type=int, default=100_000, help="of whole (100,000); interest: a tenth")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    return parser


def _measure(workload: str, nodes: int, name: str, kind: Kind, given: argparse.Namespace) -> Row:
    row: Row = {"workload": workload, "nodes": nodes, "kind": name, "label": kind.label}
    began = time.monotonic()
    try:
        if workload == "whole":
            with kind.running(0) as run:
                row |= whole(run.store, given.channels)
        else:
            size = given.channels // 100 if workload == "interest" else given.subscribers
            with kind.running(nodes) as run:
                row |= asyncio.run(_WORK[workload](run, given.seconds, size))
    except Exception as error:
        row["failure"] = f"{type(error).__name__}: {error}"[:300]
    return row | {"took_s": time.monotonic() - began}


def _line(row: Row) -> str:
    figures = [f"{name} {value:,.2f}" for name, value in row.items() if isinstance(value, float)]
    head = f"{row['workload']} {row['nodes']} {row['kind']}"
    return f"{head}: " + (row.get("failure") or ", ".join(figures))


def _tables(rows: list[Row]) -> str:
    """The figures as Markdown."""
    parts = []
    for workload in dict.fromkeys(row["workload"] for row in rows):
        own = [row for row in rows if row["workload"] == workload]
        names = list(
            dict.fromkeys(name for row in own for name, value in row.items() if isinstance(value, float))
        )
        names.remove("took_s")
        lines = [
            f"### {workload}",
            "",
            "| nodes | | " + " | ".join(name.replace("_", " ") for name in names) + " |",
        ]
        lines.append("| ---: | --- |" + " ---: |" * len(names))
        for row in own:
            cells = [f"{row[name]:,.2f}" if name in row else "" for name in names]
            shown = row.get("failure", "")
            lines.append(f"| {row['nodes']} | {row['label']} {shown} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
