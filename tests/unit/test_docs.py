"""The documents match the code: tables, drawings, commands, links and snippets."""

import json
import re
import tomllib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import msgspec
import pytest
import typer
from msgspec import inspect

from heartwire import Hub
from heartwire.cli.main import app
from heartwire.client import states as client_states
from heartwire.client.emitter import EVENTS
from heartwire.client.options import Options
from heartwire.client.states import State
from heartwire.codes import CODES
from heartwire.compare.figures import decode
from heartwire.compare.page import page as compare_page
from heartwire.compare.plots import overview
from heartwire.compare.report import number as three_digits
from heartwire.core.subscription import TRANSITIONS
from heartwire.dialects.socketio import engine_states
from heartwire.hub.options import HubOptions, NamespaceOptions
from heartwire.server.config import Settings, load
from heartwire.testing import ServerProcess, run_server
from heartwire.types import Action

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("examples/*.md")]
)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """The text under a heading, up to the next of the same rank or higher."""
    rank = heading.partition(" ")[0]
    _, _, rest = text.partition(f"\n{heading}\n")
    assert rest, f"no section {heading!r}"
    return re.split(rf"\n#{{1,{len(rank)}}} ", rest)[0]


def rows(text: str) -> list[list[str]]:
    """The rows of the first table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


# -- links, commands, snippets -------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.+)$",
        re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE),
        re.MULTILINE,
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with run_server(config='api_key = "the-api-key"') as server:
        yield server


@every_page
def test_relative_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        found = page.parent / path if path else page
        assert found.exists(), f"{page.name}: {target} is not there"
        assert not anchor or anchor in anchors(found), f"{page.name}: {target}: no such heading"


@every_page
def test_named_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z][a-z ]*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for names in named for name in names.split()} <= targets


@every_page
def test_python_snippets_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, code in enumerate(blocks(page.read_text(encoding="utf-8"), "python")):
        if "//127.0.0.1:8000" in code:  # what `make serve` gives, with the key of docs/api.md
            code = code.replace("//127.0.0.1:8000", f"//127.0.0.1:{request.getfixturevalue('server').port}")
        compiled = compile(code, f"{page.name}:{number}", "exec", dont_inherit=True)
        if (
            "django" not in code and "async_to_sync" not in code
        ):  # Django wants a whole project: examples/ has one
            exec(compiled, {"__name__": "snippet"})


@every_page
def test_snippets_use_methods_of_hub(page: Path) -> None:
    used = re.findall(r"\bhub\.(\w+)\(", page.read_text(encoding="utf-8"))
    assert [name for name in used if not hasattr(Hub, name)] == []


@every_page
def test_named_commands_and_flags_exist(page: Path) -> None:
    if page.parent.name == "bench":
        return  # its commands have placeholders
    commands: Any = typer.main.get_command(app)
    for line in re.findall(
        r"heartwire ((?:serve|pub|sub|compare)\b[^`\n]*)", page.read_text(encoding="utf-8")
    ):
        name, *words = line.split()
        known = {
            flag
            for parameter in commands.commands[name].params
            for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, line


# -- the comparison ------------------------------------------------------------------------------------------


def test_the_readme_opens_with_figures_of_the_comparison() -> None:
    """Each figure in its three lines is in docs/compare.json, and Heartwire lost nothing in that run."""
    report = decode(text_of("docs/compare.json").encode())
    figures = [
        figure
        for result in report.transports.values()
        for figure in (*result.news.values(), *result.idle.values())
    ]
    known = {
        f"{three_digits(figure.value)} {figure.unit.partition('/')[0]}"
        for figure in figures
        if figure.value is not None
    }
    faults = {
        name: [fault for fault in (result.cut, result.half_open) if fault]
        for name, result in report.transports.items()
    }
    bare = faults.pop("bare")
    lost, sent = sum(fault.lost.value or 0 for fault in bare), sum(fault.sent.value or 0 for fault in bare)
    assert [fault.lost.value or fault.doubled.value for group in faults.values() for fault in group] == [
        0
    ] * 2 * len(faults)
    known |= {f"{lost:,.0f} of {sent:,.0f} messages", "none"}
    opening = text_of("README.md").partition("\n## ")[0]
    said = [figure.replace("\n  ", " ") for figure in re.findall(r"\*\*([^*]+)\*\*", opening)]
    assert [figure for figure in said if figure not in known] == ["Latency:", "Overhead:", "Loss:"]
    assert len(said) == 13


def test_the_comparison_page_is_that_of_its_figures() -> None:
    report = decode(text_of("docs/compare.json").encode())
    assert text_of("docs/compare.html") == compare_page(report)
    assert text_of("docs/compare.svg") == overview(report)


def test_the_readme_says_what_the_benchmark_measured() -> None:
    measured = text_of("docs/benchmarks.md")

    def column(heading: str, place: int) -> dict[str, str]:
        return {
            row[0].replace("`", "").partition(" (")[0]: row[place].partition(" ")[0]
            for row in rows(section(measured, f"### {heading}"))
        }

    ours = "**Heartwire**, memory engine"
    eight, bursts, echo = (
        column(heading, 2) for heading in ("Fan-out, 8 messages outstanding", "Fan-out, bursts of 50", "Echo")
    )
    found = " ".join(section(text_of("README.md"), "## Costs").split())
    assert (
        f"**{eight[ours]}** with eight messages outstanding (uWebSockets {eight['socketify']}, NATS " in found
    )
    assert (
        f"NATS {eight['NATS server with WebSocket']}, FastAPI {eight['FastAPI on uvicorn']}, python-socketio "
        in found
    )
    assert (
        f"python-socketio {eight['python-socketio on uvicorn']}), **{bursts[ours]}** in bursts of fifty"
        in found
    )
    assert (
        f"**{echo[ours]}** (picows {echo['picows']}, uWebSockets {echo['socketify']}, Node's `ws`"
        f" {echo['Node ws']})" in found
    )
    assert f"**{column('Idle connections', 1)[ours]}** bytes" in found
    assert f"an idle event stream {column('Idle event streams', 1)['**Heartwire**, SSE']}." in found

    def against_centrifugo(heading: str, place: int = 1) -> str:
        values = column(heading, place)
        names = "**Heartwire**, Centrifugal JSON", "Centrifugo"
        mine, theirs = (float(values[name].replace(",", "")) for name in names)
        return f"{mine / theirs:.2f}"

    assert f"delivery takes {against_centrifugo('Fan-out, 8 messages outstanding')} of Centrifugo's" in found
    assert f"a round trip {against_centrifugo('Echo')}," in found
    assert f"a connect {against_centrifugo('Idle connections', 2)}," in found


# -- configuration -------------------------------------------------------------------------------------------


def described(kind: inspect.Type) -> str:
    """A type and its range, as the tables write it."""
    match kind:
        case inspect.IntType(ge=low, le=None):
            return f"whole number ≥ {low}"
        case inspect.IntType(ge=low, le=high):
            return f"{low} to {high}"
        case inspect.FloatType(gt=None, ge=low):
            return f"number ≥ {low}"
        case inspect.FloatType(gt=low):
            return f"number > {low}"
        case inspect.BoolType():
            return "true, false"
        case inspect.StrType():
            return "text"
        case inspect.VarTupleType(item_type=inspect.StrType()):
            return "list of text"
        case inspect.LiteralType(values=values):
            return ", ".join(map(str, values))
        case inspect.DictType():
            return "tables"
        case inspect.UnionType(types=(inspect.IntType() as number, inspect.LiteralType() as words)):
            return f"{described(number)}, {described(words)}"
        case inspect.UnionType(types=(given, inspect.NoneType())):
            return f"{described(given)}, unset"
        case other:
            raise AssertionError(f"describe {other} for the tables")


def fields(kind: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info.fields


def written(field: inspect.Field) -> str:
    """A default, as the tables write it."""
    if field.default is None:
        return "`unset`"
    return "`{}`" if field.default is msgspec.NODEFAULT else f"`{json.dumps(field.default)}`"


def flags() -> dict[str, str]:
    commands: Any = typer.main.get_command(app)
    parameters = commands.commands["serve"].params
    return {
        given.name: ", ".join(f"`{flag}`" for flag in (*given.opts, *given.secondary_opts))
        for given in parameters
    }


_HUB = [field.name for field in fields(HubOptions)]


@pytest.mark.parametrize(
    ("heading", "options"),
    [
        ("## The hub", fields(HubOptions)),
        ("## The server", tuple(field for field in fields(Settings) if field.name not in _HUB)),
    ],
    ids=["hub", "server"],
)
def test_tables_of_options(heading: str, options: tuple[inspect.Field, ...]) -> None:
    found = rows(section(text_of("docs/configuration.md"), heading))
    expected = [
        [f"`{field.name}`", described(field.type), written(field), flags().get(field.name, "none")]
        for field in options
    ]
    assert [row[:-1] for row in found] == expected
    assert all(row[-1] for row in found), "each option has its reason"


def test_table_of_namespace_options() -> None:
    found = rows(section(text_of("docs/configuration.md"), "## Namespaces"))
    expected = [
        [f"`{field.name}`", described(field.type), written(field)] for field in fields(NamespaceOptions)
    ]
    assert [row[:-1] for row in found] == expected
    assert all(row[-1] for row in found), "each option has its reason"


def assignments(text: str) -> Iterator[str]:
    """The lines of a TOML file, with commented assignments switched on."""
    for line in text.splitlines():
        yield re.sub(r"^# (?=\w+ = )", "", line)


def test_example_configuration_loads(tmp_path: Path) -> None:
    settings = load(str(ROOT / "heartwire.example.toml"), {}, {})
    assert set(settings.namespaces) == {"answer", "chat", "news", ""}
    everything = tmp_path / "everything.toml"
    everything.write_text("\n".join(assignments(text_of("heartwire.example.toml"))), encoding="utf-8")
    load(str(everything), {}, {})
    assert set(tomllib.loads(everything.read_text(encoding="utf-8"))) == set(Settings.__struct_fields__)


def test_what_the_example_comments_out_is_the_default() -> None:
    optional = {
        "uds",
        "uds_mode",
        "tls_cert",
        "tls_key",
        "allow_unknown_namespaces",
    }  # unset by default, which TOML cannot say
    for line in text_of("heartwire.example.toml").splitlines():
        commented = re.match(r"# (\w+ = .*)", line)
        if commented:
            ((name, value),) = tomllib.loads(commented[1]).items()
            assert name in optional or getattr(Settings(), name) == value, line


# -- codes, states, dependencies, rooms ----------------------------------------------------------------------


def test_table_of_codes() -> None:
    expected = [
        [
            f"`{code.name}`",
            str(code.http_status),
            str(code.close_code),
            str(code.number or "none"),
            "yes" if code.retry else "no",
            code.meaning,
            code.advice,
        ]
        for code in CODES.values()
    ]
    assert rows(text_of("docs/codes.md")) == expected


@pytest.mark.parametrize(
    ("heading", "first", "transitions"),
    [
        ("## The states of a subscription", "JOINING", TRANSITIONS),
        ("## The client", "WAITING", client_states.TRANSITIONS),
        ("## A Socket.IO client", "OPENING", engine_states.TRANSITIONS),
    ],
    ids=["subscription", "client", "engine.io"],
)
def test_drawing_of_states(heading: str, first: str, transitions: dict[tuple[Enum, str], Enum]) -> None:
    (drawn,) = blocks(section(text_of("ARCHITECTURE.md"), heading), "mermaid")
    changes = {
        f"{before.name} --> {after.name}: {event}"
        for (before, event), after in transitions.items()
        if before is not after
    }
    assert {line.strip() for line in drawn.splitlines()[1:]} == {f"[*] --> {first}", *changes}


def test_each_direct_dependency_has_its_reason() -> None:
    required = tomllib.loads(text_of("pyproject.toml"))["project"]["dependencies"]
    found = [row[0] for row in rows(section(text_of("ARCHITECTURE.md"), "## Direct dependencies"))]
    assert found == [f"`{re.split('[<>=;[]', name)[0]}`" for name in required]


def test_each_room_has_its_sentence() -> None:
    table = " ".join(row[0] for row in rows(section(text_of("ARCHITECTURE.md"), "## Rooms")))
    package = ROOT / "src" / "heartwire"
    rooms = {
        f"{path.name}/" for path in package.iterdir() if path.is_dir() and not path.name.startswith("__")
    }
    modules = {path.name for path in package.glob("*.py") if path.name != "__init__.py"}
    assert set(re.findall(r"`([^`]+)`", table)) == rooms | modules


def test_actions_of_permissions() -> None:
    found = section(text_of("docs/embedding.md"), "## Permissions")
    assert all(f"`{action}`" in found for action in get_args(Action))


# -- the client ----------------------------------------------------------------------------------------------


def test_table_of_client_options() -> None:
    written = {name: default for name, default, _ in rows(section(text_of("docs/python.md"), "## Options"))}
    assert written == {f"`{name}`": shown(default) for name, default in Options._field_defaults.items()}


def shown(default: object) -> str:
    if isinstance(default, tuple):
        return ", ".join(f"`{one}`" for one in default)
    return "unset" if default is None else f"`{default}`"


def test_tables_of_client_states_and_events() -> None:
    found = section(text_of("docs/python.md"), "## States and events")
    states, events = (re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) for part in found.split("| event |"))
    assert states == [state.value for state in State]
    assert events == list(EVENTS)


def test_version_is_in_the_changelog() -> None:
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    assert re.search(rf"^## .*\b{re.escape(version)}\b", text_of("CHANGELOG.md"), re.MULTILINE)
