"""Fuzz the server: ``python -m tools.fuzz --seconds 60``; ``--seed 42 --target sqlite``: one batch again."""

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence

from tools.fuzz.run import SHOWN, Finding, Total, fuzz, watched
from tools.fuzz.scripts import batch
from tools.fuzz.target import TARGETS

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    options = _options().parse_args(arguments)
    names = [options.target] if options.target else TARGETS
    if options.seed is not None:
        for script in batch(options.seed):
            _say("".join(f"\n  {step!r:.3000}" for step in (script.name, *script.steps)))
    with watched(names) as servers:
        end = time.monotonic() + options.seconds

        def seeds_of(number: int) -> Iterator[int]:
            if options.seed is not None:
                return iter([options.seed])
            seeds = itertools.count(options.first + number, len(names))
            return itertools.takewhile(lambda seed: time.monotonic() < end, seeds)

        progress = _Progress(options.seconds)
        total = asyncio.run(fuzz(servers, seeds_of, tick=progress.tick))
    progress.show_findings(total)
    _say(_summary(total, options.first if options.seed is None else options.seed))
    return 1 if total.findings else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, metavar="S", help="how long (60)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first seed (0)")
    parser.add_argument("--seed", type=int, metavar="N", help="only this one, and print what it sends")
    parser.add_argument("--target", choices=TARGETS, help="only this server")
    return parser


class _Progress:
    """Findings as they come, and on a terminal a line each second."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began = self._shown_at = time.monotonic()
        self._shown: list[Finding] = []

    def tick(self, total: Total) -> None:
        """A batch has ended."""
        self.show_findings(total)
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._shown_at >= 1:
            self._shown_at = now
            sys.stderr.write(f"\r{now - self._began:.0f} of {self._seconds:.0f} s: {_counts(total)} ")
            sys.stderr.flush()

    def show_findings(self, total: Total) -> None:
        """Print what is new."""
        for finding in total.findings[len(self._shown) : SHOWN]:
            self._shown.append(finding)
            _say(f"\n{finding}")


def _counts(total: Total) -> str:
    counts = f"{total.batches} batches, {total.connections} connections, {total.answers} answers"
    return f"{counts}, {len(total.findings)} findings"


def _summary(total: Total, first: int) -> str:
    moved = f"{total.sent_bytes / 1e6:.0f} MB sent, {total.got_bytes / 1e6:.0f} MB back"
    memory = ", ".join(
        f"{name} {warm / 1e6:.1f} to {end / 1e6:.1f} MB" for name, (warm, end) in total.rss.items()
    )
    checks = f"slowest check {total.slowest_s:.2f} s"
    return f"\nfrom seed {first}: {_counts(total)}; {moved}; {checks}; memory: {memory}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
