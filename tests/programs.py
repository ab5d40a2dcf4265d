"""Programs that pip cannot bring: browsers and proxies. `.ci/run` installs them in CI."""

import os
import shutil

import pytest


def program(package: str, *names: str) -> str:
    """The path of the first of ``names``, by default of the package's own name.

    Without it the test is skipped at a desk, and fails in CI.
    """
    path = (
        f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"  # where Debian has servers, and users do not look
    )
    for name in names or (package,):
        if found := shutil.which(name, path=path):
            return found
    message = f"no {package} here (Debian: apt-get install {package})"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def chromium() -> str:
    """The path of Chromium, or of Chrome."""
    return program("chromium", "chromium", "chromium-browser", "google-chrome")
