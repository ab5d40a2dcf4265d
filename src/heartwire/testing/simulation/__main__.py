"""Run simulations: ``python -m heartwire.testing.simulation --seeds 100000 --jobs 2``; ``--seed 42``: one.
``--socketio``: of that dialect."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final, NamedTuple

from heartwire.testing.simulation.seeds import run_seed
from heartwire.testing.simulation.socketio_events import run_socket_seed
from heartwire.testing.simulation.world import Broken, again

__all__ = ["Failure", "main", "run_seeds"]

_CHUNK: Final = 50
_STORIES: Final = 3
"""So many failures are printed with their story, the others in a line."""


class Failure(NamedTuple):
    """A seed that broke a promise: which one, and the story."""

    seed: int
    problem: str
    story: str


def run_seeds(seeds: Sequence[int], *, is_socketio: bool = False) -> list[Failure]:
    """Run them one after the other. Any exception is a failure of its seed."""
    failures = []
    for seed in seeds:
        try:
            (run_socket_seed if is_socketio else run_seed)(seed)
        except Broken as broken:
            failures.append(Failure(seed, broken.problems[0], str(broken)))
        except Exception as error:
            failures.append(
                Failure(seed, repr(error), f"{error!r}\n\n{again(seed, is_socketio=is_socketio)}")
            )
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    options = _options().parse_args(arguments)
    if options.seed is not None:
        return _repeat(options.seed, is_socketio=options.socketio)
    begin = time.monotonic()
    failures: list[Failure] = []
    done = 0
    for count, failed in _results(options):
        done += count
        failures += failed
        for failure in failed:
            _say(failure.story if len(failures) <= _STORIES else f"seed {failure.seed}: {failure.problem}")
        rate = done / max(1e-3, time.monotonic() - begin)
        _progress(f"\r{done} of {options.seeds} seeds, {len(failures)} failed, {rate:.0f} a second ")
    _progress("\n")
    last, took_s = options.first + options.seeds - 1, time.monotonic() - begin
    seeds = f"{done} seeds ({options.first}-{last}) in {took_s:.0f} s, {1000 * took_s / done:.1f} ms each"
    failed_seeds = ", ".join(str(failure.seed) for failure in failures)
    _say(f"{seeds}: {f'{len(failures)} failed: {failed_seeds}' if failures else 'all promises kept'}")
    return 1 if failures else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m heartwire.testing.simulation", description=__doc__)
    parser.add_argument("--seeds", type=_count, default=2000, metavar="N", help="how many (2000)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first one (0)")
    parser.add_argument("--jobs", type=_count, default=1, metavar="N", help="processes (1)")
    parser.add_argument("--socketio", action="store_true", help="of the Socket.IO dialect")
    parser.add_argument("--seed", type=int, metavar="N", help="only this one, and print all that happens")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


def _results(options: argparse.Namespace) -> Iterator[tuple[int, list[Failure]]]:
    first, seeds, jobs = options.first, options.seeds, options.jobs
    run = partial(run_seeds, is_socketio=options.socketio)
    chunks = [range(at, min(at + _CHUNK, first + seeds)) for at in range(first, first + seeds, _CHUNK)]
    if jobs == 1:
        for chunk in chunks:
            yield len(chunk), run(chunk)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for chunk, failed in zip(chunks, pool.map(run, chunks), strict=True):
            yield len(chunk), failed


def _repeat(seed: int, *, is_socketio: bool) -> int:
    try:
        world = (run_socket_seed if is_socketio else run_seed)(seed)
    except Broken as broken:
        _say(broken.whole_story())
        return 1
    _say(world.story(sys.maxsize))
    _say(f"\nseed {seed}: all promises kept; digest {world.digest}")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(text)


if __name__ == "__main__":
    sys.exit(main())
