"""Paths: the repository, the build and result folder, the peers' own environment."""

from pathlib import Path
from typing import Final

BENCH: Final = Path(__file__).resolve().parent
ROOT: Final = BENCH.parent
PEERS: Final = BENCH / "peers"
WORK: Final = ROOT / ".bench"
VENV: Final = ROOT / ".venv-bench"
PYTHON: Final = VENV / "bin" / "python"
NODE_MODULES: Final = WORK / "node_modules"
LOAD: Final = WORK / "load"
FLOOR: Final = WORK / "floor"
RESULTS: Final = WORK / "results"
DOCS: Final = ROOT / "docs"


def make_ignored(folder: Path) -> Path:
    """Make a folder that git ignores by itself, so that the repository's own ignore file need not know it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    return folder
