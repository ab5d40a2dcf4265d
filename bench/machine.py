"""The machine and the versions, for the report."""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.places import NODE_MODULES, VENV
from bench.servers import NGINX_PATH, Server


def output_of(command: Sequence[str]) -> str:
    """Return the output of a command (nginx prints its version on stderr), or an empty string."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip()


def processor() -> str:
    """Return the processor's name."""
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def python_version_of(package: str) -> str:
    """Return the version of a package in .venv-bench, from the name of its metadata folder."""
    pattern = f"{package.replace('-', '_')}-*.dist-info"
    for folder in VENV.glob(f"lib/python3*/site-packages/{pattern}"):
        return folder.name.removesuffix(".dist-info").rpartition("-")[2]
    return ""


def node_version_of(package: str) -> str:
    """Return the version of a package in .bench/node_modules."""
    try:
        version: str = json.loads((NODE_MODULES / package / "package.json").read_text())["version"]
    except OSError:
        return ""
    return version


def version_of(server: Server) -> str:
    """Return the version of a peer's package, or an empty string."""
    match server.package:
        case ("python", package):
            return python_version_of(package)
        case ("node", package):
            return node_version_of(package)
        case ("nginx", _):
            nginx = shutil.which("nginx", path=NGINX_PATH)
            return output_of([nginx, "-v"]).rpartition("/")[2] if nginx else ""
        case _:
            return ""


def facts(servers: Sequence[Server]) -> dict[str, str]:
    """Return the facts needed to compare: machine, kernel, interpreters, versions of the peers."""
    versions = {server.package[1]: version_of(server) for server in servers if server.package}
    for extra in ("uvicorn", "uvloop"):
        versions[extra] = python_version_of(extra)
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "Node": output_of(["node", "--version"]).removeprefix("v"),
        "compiler": output_of(["gcc", "-dumpfullversion"]),
        **{name: version for name, version in versions.items() if version},
    }
