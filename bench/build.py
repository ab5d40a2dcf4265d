"""Compile the two C programs: the load generator and the floor."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from bench.places import BENCH, FLOOR, LOAD, PEERS, WORK, make_ignored

FLAGS: Final = ["-O2", "-Wall", "-Wextra"]


class BuildError(Exception):
    """There is no C compiler, or the source does not compile."""


def compile_c(source: Path, program: Path) -> None:
    """Compile unless the program is newer than every C file beside its source.

    Raises:
        BuildError: no compiler, or the source does not compile.
    """
    sources = [source, *BENCH.glob("*.h")]
    if program.exists() and program.stat().st_mtime > max(file.stat().st_mtime for file in sources):
        return
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BuildError("no C compiler: install gcc")
    command = [compiler, *FLAGS, "-o", str(program), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{source.name} does not compile:\n{done.stderr}")


def build() -> None:
    """Build missing and outdated programs into the work folder."""
    make_ignored(WORK)
    compile_c(BENCH / "load.c", LOAD)
    compile_c(PEERS / "floor.c", FLOOR)
