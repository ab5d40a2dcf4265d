"""Draw a result file: ``python -m bench.plot RESULTS.json IMAGE.svg``, with an interpreter that has
matplotlib."""

# mypy: disable-error-code="import-not-found, import-untyped, no-any-unimported"

import sys
from pathlib import Path
from typing import Final

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from bench.results import Results, Spread
from bench.servers import Server, all_servers
from bench.workloads import CHANNELS, SUBSCRIBERS

OURS: Final = "#c8102e"
FLOORS: Final = "#555555"
PEERS: Final = "#9db4c0"
BARS: Final = (
    ("fanout-w8", "Fan-out, 8 outstanding"),
    ("fanout-w1", "Fan-out, 1 outstanding"),
    ("burst-50", "Fan-out, bursts of 50"),
    ("echo", "Echo"),
    ("longpoll", "Long poll"),
    ("idle", "Idle connection"),
)


def colour(server: Server) -> str:
    """Return the colour of a server's bar."""
    if server.name.startswith("heartwire"):
        return OURS
    return FLOORS if server.name.startswith("floor") else PEERS


def figure_of(results: Results, server: Server, workload: str) -> Spread | None:
    """Return the figure of a bar: CPU microseconds, or KiB of memory for idle connections."""
    if workload != "idle":
        return results.cpu_us(server.name, workload)
    runs = results.counted(server.name, workload)
    return Spread.of(max(run.memory_per_connection, 1) / 1024 for run in runs) if runs else None


def draw_bars(axes: Axes, results: Results, workload: str, title: str) -> None:
    """Draw one workload: a bar per server on a logarithmic scale, the least cost on top."""
    found = [(server, figure_of(results, server, workload)) for server in all_servers()]
    bars = sorted(((value, server) for server, value in found if value), key=lambda bar: -bar[0].middle)
    names = [server.label.replace("*", "").replace("`", "") for _, server in bars]
    middles = [value.middle for value, _ in bars]
    errors = [
        [value.middle - value.low for value, _ in bars],
        [value.high - value.middle for value, _ in bars],
    ]
    colours = [colour(server) for _, server in bars]
    axes.barh(names, middles, xerr=errors, color=colours, ecolor="#222222", height=0.7)
    for place, middle in enumerate(middles):
        axes.annotate(f" {middle:,.3g}", (errors[1][place] + middle, place), va="center", fontsize=7)
    if bars:
        axes.set_xscale("log")
        axes.set_xlim(min(middles) / 2, max(middles) * 4)
    unit = "KiB of memory" if workload == "idle" else "server CPU µs"
    axes.set_title(f"{title}: {unit} (log scale)", fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def draw_growth(axes: Axes, results: Results, series: str, sizes: tuple[int, ...], title: str) -> None:
    """Draw one growth series: CPU per delivery against size."""
    for server in all_servers():
        points = [(size, results.cpu_us(server.name, f"{series}-{size}")) for size in sizes]
        known = [(size, value.middle) for size, value in points if value]
        if known:
            label = server.label.replace("*", "").replace("`", "")
            axes.plot(*zip(*known, strict=True), marker="o", color=colour(server), label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_title(f"{title}: server CPU µs per delivery", fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(fontsize=7, frameon=False)


def draw(results: Results, image: Path) -> None:
    """Draw everything into one image."""
    # Fixed ids and no date: the same figures give the same file.
    pyplot.rcParams.update({"svg.hashsalt": "heartwire", "font.family": "sans-serif", "svg.fonttype": "none"})
    figure, grid = pyplot.subplots(4, 2, figsize=(12, 13), layout="constrained")
    for axes, (workload, title) in zip(grid.flat, BARS, strict=False):
        draw_bars(axes, results, workload, title)
    draw_growth(grid[3][0], results, "subscribers", SUBSCRIBERS, "Subscribers of one channel")
    draw_growth(grid[3][1], results, "channels", CHANNELS, "Channels of one subscriber each")
    figure.savefig(image, metadata={"Date": None})


if __name__ == "__main__":
    draw(Results.load(Path(sys.argv[1])), Path(sys.argv[2]))
