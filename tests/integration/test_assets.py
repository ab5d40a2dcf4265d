"""Pages and files for browsers: the rules they come with, and their tags."""

import re
from base64 import b64encode
from hashlib import sha256

import pytest

from heartwire.testing.server import ServerProcess
from tests.integration.wire import get

PAGES = ["/", "/compare.html"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_runs_no_script_of_others_and_stands_in_no_frame(server: ServerProcess, path: str) -> None:
    """There was no policy: what a message smuggled in would have run, and any site could frame the page."""
    answer = get(server.url, path)
    text = answer.body.decode()
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    # What the page has inline is allowed by its hash, and there is no script or handler in it.
    for style in re.findall(r"<style>(.*?)</style>", text, re.DOTALL):
        assert b64encode(sha256(style.encode()).digest()).decode() in policy["style-src"]
    assert re.findall(r"<script(?![^>]* src=)|\son\w+=\"|\sstyle=\"", text) == []


@pytest.mark.parametrize(
    "path", [*PAGES, "/heartwire.js", "/heartwire.d.ts", "/demo/page.js", "/demo/demo.css"]
)
def test_every_file_is_what_its_type_says(server: ServerProcess, path: str) -> None:
    answer = get(server.url, path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    tag = answer.headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', tag[:-1] + '-gzip"', "*"):
        again = get(server.url, path, If_None_Match=known)
        assert (again.status, again.headers["etag"], again.body) == (304, tag, b"")
        assert again.headers["x-content-type-options"] == "nosniff"
    assert get(server.url, path, If_None_Match='"x"').status == 200


@pytest.mark.parametrize("range", ["bytes=0-1", "bytes=9-1", "x", "bytes=0-1,5-,-3"])
def test_ranges_are_ignored(server: ServerProcess, range: str) -> None:
    """A bad one was answered in words of another library."""
    answer = get(server.url, "/heartwire.js", Range=range)
    assert (answer.status, answer.headers["accept-ranges"]) == (200, "none")
    assert answer.body == get(server.url, "/heartwire.js").body
