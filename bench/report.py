"""Turn results into Markdown tables, and put them and a plot into docs/."""

import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from bench.places import DOCS, PYTHON, ROOT, VENV
from bench.results import Results, Run, Spread
from bench.servers import Server, all_servers
from bench.workloads import CHANNELS, SUBSCRIBERS, Workload, all_workloads

BEGIN: Final = "<!-- bench:begin (written by python -m bench; edit outside these markers) -->"
END: Final = "<!-- bench:end -->"
FLOOR: Final = "floor"
NOISY_SHARE: Final = 0.1
NEW_PAGE: Final = f"# Benchmarks\n\n{BEGIN}\n{END}\n"

ABOUT: Final = {
    "fanout-w8": "1000 subscribers, 64 bytes; the next message is sent when fewer than 8 are outstanding.",
    "fanout-w1": "The same with one message at a time: there is never a second one to join.",
    "burst-50": "The same with 50 messages at once, and the next 50 when all subscribers have them.",
    "each": "A program sends one message to each of 100 WebSockets, by a call for each.",
    "echo": "100 connections, each with its own channel and one message in flight.",
    "longpoll": "200 HTTP clients wait; one message is published, all are answered and ask again.",
    "publish": "20 keep-alive connections POST, each to a channel with one subscriber; answers are timed.",
    "idle": "5000 connections are opened (50 handshakes at a time) and left alone; memory is PSS.",
    "idle-stream": "The same with server-sent events.",
    **{
        f"fairness-{flood}": "One connection has one message in flight; look at its p99."
        for flood in ("pings", "fragments", "messages")
    },
    "handshake": "50 clients connect, upgrade, close, again and again.",
}

# Column: heading, and the text for one server's runs.
Column = tuple[str, Callable[[Sequence[Run]], str]]


def number(value: float) -> str:
    """Return a figure with three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(value: Spread) -> str:
    """Return a median with its minimum and maximum."""
    return f"{number(value.middle)} ({number(value.low)}–{number(value.high)})"


def column(heading: str, of: Callable[[Run], float], *, with_spread: bool = False) -> Column:
    """Return a column of medians."""

    def text(runs: Sequence[Run]) -> str:
        value = Spread.of(of(run) for run in runs)
        return spread(value) if with_spread else number(value.middle)

    return heading, text


def ratio_column(results: Results, workload: Workload) -> list[Column]:
    """Return the column of ratios to the floor; empty where the floor was not measured."""
    base = results.cpu_us(FLOOR, workload.name)
    if base is None:
        return []
    return [("× floor", lambda runs: number(Spread.of(run.cpu_us for run in runs).middle / base.middle))]


def columns(results: Results, workload: Workload) -> list[Column]:
    """Return the columns of one workload's table."""
    cpu = column(f"CPU µs per {workload.unit}", lambda run: run.cpu_us, with_spread=True)
    rate = column("thousand a second", lambda run: run.rate / 1000)
    if workload.work == "idle":
        memory = column("bytes per connection", lambda run: run.memory_per_connection, with_spread=True)
        opens = column("connects a second", lambda run: run.rate)
        return [memory, column("CPU µs per connect", lambda run: run.cpu_us, with_spread=True), opens]
    latency = [
        column("p50 ms", lambda run: run.p50_us / 1000),
        column("p99 ms", lambda run: run.p99_us / 1000),
    ]
    return [cpu, *ratio_column(results, workload), rate, *latency]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are figures."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def workload_section(results: Results, workload: Workload, servers: Sequence[Server]) -> str:
    """Return heading, explanation and table of one workload, the cheapest first; empty without figures."""
    measured = [(server, results.counted(server.name, workload.name)) for server in servers]
    measured = [(server, runs) for server, runs in measured if runs]
    if not measured:
        return ""

    def cost(item: tuple[Server, list[Run]]) -> float:
        idle = workload.work == "idle"
        return Spread.of(run.memory_per_connection if idle else run.cpu_us for run in item[1]).middle

    shown = columns(results, workload)
    rows = [[server.label, *(text(runs) for _, text in shown)] for server, runs in sorted(measured, key=cost)]
    head = ["server", *(name for name, _ in shown)]
    return f"### {workload.title}\n\n{ABOUT[workload.name]}\n\n{table(head, rows)}\n"


def growth_section(
    results: Results, series: str, sizes: Sequence[int], title: str, servers: Sequence[Server]
) -> str:
    """Return the table of one growth series: CPU microseconds per delivery; empty without figures."""
    rows = []
    for server in servers:
        values = [results.cpu_us(server.name, f"{series}-{size}") for size in sizes]
        if any(values):
            rows.append([server.label, *(spread(value) if value else "–" for value in values)])
    if not rows:
        return ""
    head = ["server", *(f"{size:,}" for size in sizes)]
    return f"### {title}\n\nCPU µs per delivery.\n\n{table(head, rows)}\n"


def trouble_section(results: Results) -> str:
    """Return the list of skipped servers, failed runs and noisy runs."""
    lines = [f"* `{name}` skipped: {reason}." for name, reason in results.skipped.items()]
    failed = [run for run in results.runs if run.trouble]
    lines += [f"* `{run.server}`, {run.workload}, repeat {run.repeat + 1}: {run.trouble}." for run in failed]
    noisy = f"{sum(run.other_share > NOISY_SHARE for run in results.runs)} of {len(results.runs)}"
    if not noisy.startswith("0 "):
        lines.append(f"* In {noisy} runs something else used over {NOISY_SHARE:.0%} of the server's core.")
    return "### Skipped, failed, noisy\n\n" + "\n".join(lines) + "\n" if lines else ""


def machine_section(results: Results) -> str:
    """Return the machine, the versions and the command."""
    rows = [[name, value] for name, value in results.machine.items()]
    repeats = max((run.repeat for run in results.runs), default=-1) + 1
    return (
        f"### Machine and command\n\n`{results.command}`: {repeats} interleaved repeats of"
        f" {results.seconds:g} s each; median (least–most). Server and load generator had a core each. A run"
        " counts only when every message came to every subscriber exactly once and in order.\n\n| what |"
        " which |\n| --- | --- |\n" + "\n".join(f"| {name} | {value} |" for name, value in rows) + "\n"
    )


def markdown(results: Results) -> str:
    """Return the whole report."""
    servers = all_servers()
    sections = [workload_section(results, one, servers) for one in all_workloads() if not one.growth]
    sections += [
        growth_section(results, "subscribers", SUBSCRIBERS, "Growth: subscribers of one channel", servers),
        growth_section(results, "channels", CHANNELS, "Growth: channels of one subscriber each", servers),
        trouble_section(results),
        machine_section(results),
    ]
    return "\n".join(section for section in sections if section)


def replace_between(page: str, text: str) -> str:
    """Put the text between the markers; a page without markers gets them at its end."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        before, after = page.rstrip() + "\n\n", "\n"
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def draw(result_file: Path, image: Path) -> bool:
    """Draw the plot with the matplotlib of .venv-bench; return whether it worked."""
    if not PYTHON.exists():
        print(f"no plot: no {VENV.name} (python -m bench.setup)")
        return False
    command = [str(PYTHON), "-m", "bench.plot", str(result_file.resolve()), str(image)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["unknown error"]
        print(f"no plot: {lines[-1]}")
    return done.returncode == 0


def write_docs(result_file: Path, text: str) -> None:
    """Write docs/benchmarks.md between its markers, and docs/benchmarks.svg."""
    DOCS.mkdir(exist_ok=True)
    page = DOCS / "benchmarks.md"
    drawn = draw(result_file, DOCS / "benchmarks.svg")
    plot = "![Server CPU per delivery, compared](benchmarks.svg)\n\n" if drawn else ""
    page.write_text(replace_between(page.read_text() if page.exists() else NEW_PAGE, plot + text))
