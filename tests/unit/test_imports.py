"""Who may import whom (DESIGN, "Rooms"). A new edge is a change to this table, to be reviewed as one."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import heartwire

ROOT: Final = Path(heartwire.__file__).parent

BASE: Final = {"types", "codes", "errors"}
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "types": set(),
    "codes": set(),
    "errors": {"codes"},
    "core": BASE,
    "engines": BASE | {"core"},
    "dialects": BASE | {"core"},
    "transports": BASE | {"core"},
    "server": BASE | {"core", "engines", "dialects", "transports"},
    "client": BASE | {"dialects"},
    "cli": BASE | {"core", "engines", "dialects", "transports", "server", "client", "compare", "heartwire"},
    "__main__": {"cli"},
    "testing": BASE | {"core", "engines", "dialects", "transports", "server", "client"},
    # It runs real servers and clients on bad networks, which is what `testing` has.
    "compare": BASE | {"dialects", "client", "testing", "heartwire"},
    # The package itself holds the public names, nothing else.
    "heartwire": BASE | {"server", "client"},
}

DRIVERS: Final[dict[str, set[str]]] = {
    "sqlite3": {"engines/sqlite_store.py"},
    "redis": {"engines/redis.py"},
    # uvicorn is the server, and the protocols are plugged into it; its processes are what `run_server`
    # starts.
    "uvicorn": {
        "server/run.py",
        "testing/server.py",
        "transports/uvicorn_http.py",
        "transports/uvicorn_front.py",
        "transports/websocket_uvicorn.py",
    },
    "uvloop": {"server/run.py"},
    "aiohttp": {"client/links.py"},
    "jwt": {"server/tokens.py"},
    "cryptography": {"server/tokens.py"},
    # Beside the codec only what was generated from client.proto.
    "google": {"dialects/centrifugal/protobuf_codec.py", "dialects/centrifugal/client_pb2.py"},
}

GENERATED: Final = {"client_pb2.py"}
"""Their form is the generator's."""

SANS_IO: Final = {"asyncio", "socket", "threading", "time", "random", "secrets", "select", "subprocess"}
"""What `core` and `dialects` do without: they never await, never read a clock, and chance is an argument."""


class Edge(NamedTuple):
    """``file`` imports ``module``."""

    file: str
    line: int
    module: str

    @property
    def room(self) -> str:
        return room_of(self.file.removesuffix(".py").split("/"))

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def room_of(parts: list[str]) -> str:
    return "heartwire" if parts == ["__init__"] else parts[0]


def edges() -> Iterator[Edge]:
    for path in sorted(ROOT.rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Import(names=names):
                    yield from (Edge(file, node.lineno, alias.name) for alias in names)
                case ast.ImportFrom(module=str(module), level=0, names=names):
                    # `from heartwire import errors` names a module as well as `from heartwire.errors import
                    # X` does.
                    yield from (Edge(file, node.lineno, f"{module}.{alias.name}") for alias in names)
                case ast.ImportFrom():
                    yield Edge(file, node.lineno, "a relative name: write it out")


EDGES: Final = list(edges())
OURS: Final = [edge for edge in EDGES if edge.module.split(".")[0] == "heartwire"]


def room_imported(module: str) -> str:
    parts = module.split(".")[1:]
    return parts[0] if parts and parts[0] in MAY_IMPORT else "heartwire"


def test_every_room_is_in_the_table() -> None:
    rooms = {
        room_of(path.relative_to(ROOT).with_suffix("").as_posix().split("/")) for path in ROOT.rglob("*.py")
    }
    assert rooms <= set(MAY_IMPORT)


def test_rooms_import_only_what_they_may() -> None:
    wrong = [
        str(edge)
        for edge in OURS
        if (other := room_imported(edge.module)) != edge.room and other not in MAY_IMPORT[edge.room]
    ]
    assert wrong == []


def test_nothing_is_imported_by_a_relative_name() -> None:
    assert [str(edge) for edge in EDGES if edge.module.startswith("a relative")] == []


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_driver_is_imported_where_it_belongs_only(driver: str) -> None:
    wrong = [
        str(edge)
        for edge in EDGES
        if edge.module.split(".")[0] == driver and edge.file not in DRIVERS[driver]
    ]
    assert wrong == []


def test_core_and_dialects_touch_neither_clock_nor_loop() -> None:
    pure = [edge for edge in EDGES if edge.room in ("types", "codes", "errors", "core", "dialects")]
    assert [str(edge) for edge in pure if edge.module.split(".")[0] in SANS_IO] == []
    for room in ("core", "dialects"):
        for path in (ROOT / room).glob(
            "*.py"
        ):  # a session of dialects/centrifugal does await: its port's answers, nothing else
            assert not any(
                isinstance(node, ast.AsyncFunctionDef | ast.Await)
                for node in ast.walk(ast.parse(path.read_text("utf-8")))
            )


def test_packages_only_re_export() -> None:
    for path in ROOT.rglob("__init__.py"):
        body = ast.parse(path.read_text("utf-8")).body
        own = [
            type(node).__name__
            for node in body
            if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign)
        ]
        # The URL of an engine is what chooses its module.
        assert own in ([], ["FunctionDef", "FunctionDef"]), path
        assert own == [] or path.parent.name == "engines"


def test_public_names_are_those_that_are_listed() -> None:
    imported = {
        alias.asname or alias.name
        for node in ast.parse((ROOT / "__init__.py").read_text("utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(heartwire.__all__) - {"__version__"} == imported
    assert len(heartwire.__all__) == len(set(heartwire.__all__))  # ruff sorts them
    assert all(hasattr(heartwire, name) for name in heartwire.__all__)


def test_public_modules_list_their_names() -> None:
    for path in ROOT.rglob("*.py"):
        body = ast.parse(path.read_text("utf-8")).body
        if path.name in GENERATED or (path.name == "__init__.py" and len(body) <= 1):
            continue
        lists = [
            node
            for node in body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        ]
        assert lists, f"{path.relative_to(ROOT)} has no __all__"
        names = ast.literal_eval(lists[0].value)
        defined = {getattr(node, "name", "") for node in body} | {
            alias.asname or alias.name
            for node in body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            defined |= {target.id for target in targets if isinstance(target, ast.Name)}
        assert set(names) <= defined, f"{path.relative_to(ROOT)} lists {set(names) - defined}"
