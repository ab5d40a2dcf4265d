"""`heartwire serve` as a process, for tests that want nothing but its address."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_COMMAND = (sys.executable, "-c", "from heartwire.cli.main import main; main()", "serve", "--port", "0")


@contextlib.contextmanager
def served(folder: Path, config: str, *arguments: str) -> Iterator[str]:
    """Serve with a configuration on a free port; gives the URL once connections are accepted."""
    file = folder / "heartwire.toml"
    file.write_text(config)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEARTWIRE_")}
    command = (*_COMMAND, "--config", str(file), *arguments)
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stderr=subprocess.PIPE, cwd=folder, env=environment) as process,
    ):
        assert process.stderr is not None
        try:
            yield _address(process.stderr.readline().decode())
        finally:
            process.terminate()
            log.write(process.stderr.read().decode())


def _address(banner: str) -> str:
    found = re.search(r"is up at (\S+)", banner)
    assert found is not None, banner
    return found[1]
