"""The JavaScript files as they are committed."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.js.node import HERE, MODULE, need_node
from tools.join import LIBRARY, join

ROOT: Final = Path(__file__).parents[2]
WIDTH: Final = 110


def test_the_library_is_what_its_modules_make() -> None:
    assert LIBRARY.read_text("utf-8") == join(), "make format joins them anew"


def test_modules_are_short_and_lines_are_narrow() -> None:
    paths = [path for folder in ("bench", "src", "tests") for path in (ROOT / folder).rglob("*.*s")]
    for path in paths:
        if path.suffix not in (".js", ".mjs", ".ts") or path == LIBRARY or "node_modules" in path.parts:
            continue
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) <= 450, path
        assert [line for line in lines if len(line) > WIDTH] == [], path


def test_only_names_of_the_wire_are_snake_case() -> None:
    types = LIBRARY.with_suffix(".d.ts").read_text("utf-8")
    assert re.findall(r"\b[a-z]+_\w+", types) == []


def test_a_project_of_commonjs_can_load_it(tmp_path: Path) -> None:
    """There a file of the name .js is no module, so the documented import failed."""
    need_node()
    (tmp_path / "package.json").write_text('{"type": "commonjs"}')
    shutil.copy(MODULE, tmp_path / "heartwire.mjs")
    shutil.copy(HERE / "commonjs.cjs", tmp_path / "app.js")
    command = ["node", "app.js", str(tmp_path / "heartwire.mjs")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "function true\n"), done.stderr
