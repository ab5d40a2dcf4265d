"""Joins the modules of ``src/heartwire/web/client`` into ``heartwire.js``, the one file that browsers import.

Each module follows those that it imports. Imports and exports are taken out, and the last module,
``index.js``, ends with the one list of exports. So top-level names are unique among all modules, and imports
rename nothing; anything else is an error here. ``python -m tools.join`` writes the file, as ``make format``
does, and a test compares it.
"""

import re
from pathlib import Path
from typing import Final

__all__ = ["CLIENT", "LIBRARY", "join"]

WEB: Final = Path(__file__).parents[1] / "src" / "heartwire" / "web"
CLIENT: Final = WEB / "client"
LIBRARY: Final = WEB / "heartwire.js"

_HEADER: Final = """\
/*
 * Heartwire for browsers, Web Workers and Node: channels over the best transport that the network lets
 * through, resumed without loss wherever it breaks. One file, no dependencies; docs/javascript.md says how it
 * is used.
 *
 * Made from the modules in client/ by tools/join.py: change them, then run `make format`.
 */
"""
_IMPORT: Final = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:async )?(?:function|class|const)\b)", re.MULTILINE)
_NAME: Final = re.compile(r"^(?:async )?(?:function\*?|class|const|let) (\w+)", re.MULTILINE)
_LEFT_OVER: Final = re.compile(r"^(?:import|export (?!\{)).*|^import \{[^}]* as [^}]*\}", re.MULTILINE)


def join() -> str:
    """Return the text of ``heartwire.js``. Raises ``ValueError`` for modules that cannot be joined."""
    parts: dict[str, str] = {}
    _visit("index", parts, ())
    unused = {path.stem for path in CLIENT.glob("*.js")} - parts.keys()
    if unused:
        raise ValueError(f"no module imports {', '.join(sorted(unused))}")
    text = _HEADER + "".join(
        f"\n// -- {name} {'-' * (104 - len(name))}\n\n{part}" for name, part in parts.items()
    )
    names = _NAME.findall(text)
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"in more than one module: {', '.join(sorted(twice))}")
    return text


def _visit(name: str, parts: dict[str, str], above: tuple[str, ...]) -> None:
    if name in above:
        raise ValueError(f"a circle of imports: {' -> '.join([*above, name])}")
    if name in parts:
        return
    source = (CLIENT / f"{name}.js").read_text("utf-8")
    for imported in _IMPORT.findall(source):
        _visit(imported, parts, (*above, name))
    part = _EXPORT.sub("", _IMPORT.sub("", source))
    if left_over := _LEFT_OVER.search(part):
        raise ValueError(f"{name}.js: {left_over[0]}")
    parts[name] = re.sub(r"\n{3,}", "\n\n", part)


if __name__ == "__main__":
    LIBRARY.write_text(join(), "utf-8")
