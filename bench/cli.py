"""Measure Heartwire and its peers on the same work: ``python -m bench``.

Every run has a fresh server on one core and the load generator on another. Repeats are interleaved: all
servers and workloads once, then all again, so that a noisy minute affects all of them.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import machine, report
from bench.build import BuildError, build
from bench.places import DOCS, RESULTS, ROOT
from bench.processes import Cores, RunError, choose_cores, raise_file_limit, run_load, running
from bench.results import Results, Run
from bench.servers import HEARTWIRE, Server, all_servers
from bench.workloads import Workload, all_workloads

Job = tuple[int, Workload, Server]


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    about = "Measure Heartwire and its peers on the same work. python -m bench.setup installs the peers."
    workloads = " ".join(workload.name for workload in all_workloads())
    servers = " ".join(server.name for server in all_servers())
    names = f"workloads: {workloads} -- servers: {servers}"
    parser = argparse.ArgumentParser(prog="python -m bench", description=about, epilog=names)
    parser.add_argument("--quick", action="store_true", help="one short repeat, no report: a smoke test")
    parser.add_argument("--only", metavar="A,B", help="only these workloads; growth: both growth series")
    parser.add_argument("--peers", metavar="A,B", help="only these servers")
    parser.add_argument("--repeats", type=int, metavar="N", help="repeats of everything (default 5, quick 1)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a run (default 2, quick 0.5)")
    parser.add_argument("--heartwire", metavar="COMMAND", default=HEARTWIRE, help=f"default: {HEARTWIRE}")
    docs = argparse.BooleanOptionalAction
    parser.add_argument("--docs", action=docs, help="write docs/ (default: after a full run)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="report on an earlier result file")
    options = parser.parse_args(words)
    options.repeats = options.repeats or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.5 if options.quick else 2.0)
    if options.docs is None:
        options.docs = not (options.quick or options.only or options.peers or options.report)
    return options


def choose_workloads(names: str | None) -> list[Workload]:
    """Return the workloads of these names.

    Raises:
        SystemExit: a name is unknown.
    """
    workloads = all_workloads()
    if names is None:
        return workloads
    wanted = set(names.split(","))
    chosen = [
        one for one in workloads if one.name in wanted or (one.growth and wanted & {"growth", one.growth})
    ]
    unknown = wanted - {one.name for one in chosen} - {"growth", *(one.growth for one in chosen)}
    if unknown:
        raise SystemExit(f"unknown workload: {' '.join(sorted(unknown))}; see --help")
    return chosen


def choose_servers(names: str | None, template: str) -> list[Server]:
    """Return the servers of these names.

    Raises:
        SystemExit: a name is unknown.
    """
    servers = all_servers(template)
    if names is None:
        return servers
    wanted = set(names.split(","))
    unknown = wanted - {server.name for server in servers}
    if unknown:
        raise SystemExit(f"unknown server: {' '.join(sorted(unknown))}; see --help")
    return [server for server in servers if server.name in wanted]


def plan(workloads: Sequence[Workload], servers: Sequence[Server], repeats: int) -> list[Job]:
    """Return all runs in their order; each repeat starts with another server."""
    jobs: list[Job] = []
    for repeat in range(repeats):
        turn = repeat % len(servers) if servers else 0
        order = [*servers[turn:], *servers[:turn]]
        pairs = [(workload, server) for workload in workloads for server in order]
        jobs += [(repeat, workload, server) for workload, server in pairs if workload.fits(server)]
    return jobs


def measure(job: Job, cores: Cores, seconds: float) -> Run:
    """Make one run; a failure is an incomplete run."""
    repeat, workload, server = job
    names: dict[str, object] = {"server": server.name, "workload": workload.name, "repeat": repeat}
    try:
        with running(server, cores) as (port, pids):
            arguments = workload.arguments(server, seconds=seconds, warm_s=max(0.3, seconds / 4))
            return Run.from_dict(run_load(arguments, port, pids, cores), **names)
    except RunError as failed:
        return Run.from_dict(names, failure=str(failed))


def describe(run: Run) -> str:
    """Return one run in one line."""
    if run.trouble:
        return f"failed: {run.trouble}"
    noise = f" (another process had {run.other_share:.0%} of the core)" if run.other_share > 0.1 else ""
    memory = f", {run.memory_per_connection:,.0f} bytes each" if run.memory_after else ""
    figures = f"{run.cpu_us:.2f} us CPU, {run.rate / 1000:,.1f} k/s, p99 {run.p99_us / 1000:.1f} ms"
    return f"{figures}{memory}{noise}"


def run_all(jobs: Sequence[Job], results: Results, path: Path) -> None:
    """Make all runs; save after each, so that an interrupted benchmark keeps its results."""
    cores = choose_cores()
    start = time.monotonic()
    for number, job in enumerate(jobs, 1):
        repeat, workload, server = job
        at = f"[{number}/{len(jobs)} {time.monotonic() - start:.0f} s]"
        head = f"{at} {repeat + 1} {workload.name} {server.name}"
        if sys.stdout.isatty():
            print(f"{head} ...", end="\r", flush=True)
        run = measure(job, cores, results.seconds)
        print(f"{head}: {describe(run)}", flush=True)
        results.runs.append(run)
        results.save(path)


def benchmark(options: argparse.Namespace) -> tuple[Results, Path]:
    """Build, measure and save."""
    build()
    raise_file_limit()
    servers = choose_servers(options.peers, options.heartwire)
    workloads = choose_workloads(options.only)
    skipped = {server.name: reason for server in servers if (reason := server.missing())}
    for name, reason in skipped.items():
        print(f"{name}: skipped: {reason}")
    present = [server for server in servers if server.name not in skipped]
    command = " ".join(["python -m bench", *options.words])
    results = Results(machine.facts(present), command, options.seconds, skipped)
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    run_all(plan(workloads, present, options.repeats), results, path)
    return results, path


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return 0 when every run was complete."""
    words = sys.argv[1:] if words is None else words
    options = parse_arguments(words)
    options.words = words
    try:
        path = options.report
        results, path = (Results.load(path), path) if path else benchmark(options)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the results so far are in", RESULTS.relative_to(ROOT))
        return 130
    text = report.markdown(results)
    if options.docs:
        report.write_docs(path, text)
        print(f"wrote {(DOCS / 'benchmarks.md').relative_to(ROOT)} and benchmarks.svg")
    else:
        print(f"\n{text}")
    return 1 if any(run.trouble for run in results.runs) else 0
