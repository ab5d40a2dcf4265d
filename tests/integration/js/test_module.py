"""The module heartwire.js: how it is served, and that its types and documentation name what it has."""

import http.client
import json
import re
from pathlib import Path

import pytest

from heartwire.testing.server import ServerProcess
from tests.js.runtime import Runtime


def test_the_types_name_what_the_module_has(node: Runtime) -> None:
    types = (Path(__file__).parents[3] / "src" / "heartwire" / "web" / "heartwire.d.ts").read_text()
    exported, options, methods = node.run("""const names = one => Object.getOwnPropertyNames(one.prototype);
           return [Object.keys(heartwire), Object.keys(heartwire.DEFAULTS), names(heartwire.Client)];""")
    told = {
        line.split()[2].rstrip(":").partition("<")[0].partition("(")[0]
        for line in types.splitlines()
        if line.startswith("export")
    }
    assert set(exported) <= told
    for name in [*options, *methods]:
        assert f"  {name}" in types or f"readonly {name}:" in types, name


def test_the_table_of_options_is_complete(node: Runtime) -> None:
    page = (Path(__file__).parents[3] / "docs" / "javascript.md").read_text()
    table = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", page.partition("## Options")[2], re.MULTILINE))
    for name, default in node.run("return Object.entries(heartwire.DEFAULTS);"):
        assert json.loads(table[name]) == default, name


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("heartwire.js", "text/javascript; charset=utf-8"), ("heartwire.d.ts", "application/typescript")],
)
def test_it_is_served_to_all_who_may(server: ServerProcess, name: str, media_type: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def get(**headers: str) -> http.client.HTTPResponse:
        connection.request("GET", f"/{name}", headers=headers)
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        return answer

    answer = get(Origin=f"http://127.0.0.1:{server.port}")
    assert (answer.status, answer.getheader("content-type")) == (200, media_type)
    assert answer.getheader("access-control-allow-origin") == f"http://127.0.0.1:{server.port}"
    assert answer.getheader("cache-control") == "no-cache"
    assert get(**{"If-None-Match": str(answer.getheader("etag"))}).status == 304
    assert get(Origin="https://elsewhere.example").status == 403
    connection.close()
