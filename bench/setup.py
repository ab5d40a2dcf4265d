"""Install the peers: ``python -m bench.setup``. Nothing goes into Heartwire's own environment.

Python peers go into .venv-bench, Node peers into .bench/node_modules. nginx with nchan comes from Debian's
packages and only with ``--apt``, as that changes the machine. Peers that cannot be installed are skipped with
their reason.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from bench.places import PEERS, PYTHON, VENV, WORK, make_ignored

NODE_PEERS: Final = ["ws@8.23.0", "socket.io@4.8.4", "@durable-streams/server@0.3.7"]
APT_PACKAGES: Final = ["nginx", "libnginx-mod-nchan"]
STEP_TIMEOUT_S: Final = 600


def step(what: str, command: Sequence[str]) -> bool:
    """Run one install step; print its outcome; return whether it worked."""
    print(f"{what} ...", end=" ", flush=True)
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=STEP_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"skipped: {error}")
        return False
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        print(f"skipped: {lines[-1]}")
        return False
    print("ok")
    return True


def requirements() -> list[str]:
    """Return the lines of requirements.txt that are not comments."""
    lines = (PEERS / "requirements.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def install_python_peers() -> None:
    """Fill .venv-bench, one package at a time."""
    if not PYTHON.exists() and not step("virtual environment", [sys.executable, "-m", "venv", str(VENV)]):
        return
    make_ignored(VENV)
    for requirement in requirements():
        step(requirement, [str(PYTHON), "-m", "pip", "install", "--quiet", requirement])


def install_node_peers() -> None:
    """Fill .bench/node_modules."""
    make_ignored(WORK)
    npm = shutil.which("npm")
    if npm is None:
        print("Node peers ... skipped: npm is not installed")
        return
    for package in NODE_PEERS:
        step(package, [npm, "install", "--prefix", str(WORK), "--no-audit", "--no-fund", package])


def install_nchan() -> None:
    """Install nginx and nchan where this is Debian and we are root."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        print("nchan ... skipped: needs apt-get and root")
        return
    step("package lists", [apt, "update", "-q"])
    step(" ".join(APT_PACKAGES), [apt, "install", "-y", "-q", "--no-install-recommends", *APT_PACKAGES])


def main() -> int:
    """Install all peers that can be installed; return 0, as each peer is optional."""
    parser = argparse.ArgumentParser(prog="python -m bench.setup", description=__doc__)
    parser.add_argument("--apt", action="store_true", help="also install nginx and nchan (apt-get, as root)")
    options = parser.parse_args()
    install_python_peers()
    install_node_peers()
    if options.apt:
        install_nchan()
    return 0


if __name__ == "__main__":
    sys.exit(main())
