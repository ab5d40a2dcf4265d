"""heartwire.js in Node: tokens that run out, cannot be fetched, or are none."""

import time
from pathlib import Path

import pytest

from heartwire.hub.tokens import make_token
from heartwire.testing.server import ServerProcess
from tests.integration.centrifugal.sdk.app import SECRET
from tests.integration.centrifugal.sdk.harness import serving
from tests.js.runtime import Runtime
from tests.js.stories import TRANSPORTS


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_token_that_runs_out_is_renewed(node: Runtime, tmp_path: Path, transport: str) -> None:
    with serving(tmp_path) as server:
        stale = make_token({"sub": "42", "exp": int(time.time()) - 100}, SECRET)
        soon = int(time.time()) + 4
        tokens = [stale, make_token({"sub": "42", "exp": soon}, SECRET), make_token({"sub": "42"}, SECRET)]
        user, states, errors = node.run(
            """globalThis.asked = 0;
               begin(url, { transports: [transport], getToken: async () => tokens[Math.min(asked++, 2)] });
               await until(() => asked === 3, "three tokens");
               const { user } = await client.rpc("echo", 1);
               await client.close();
               return [user, heard("open").length, heard("error")];""",
            url=server.url,
            transport=transport,
            tokens=tokens,
        )
    assert (user, states, errors) == ("42", 1, [])


@pytest.mark.slow
def test_a_token_that_cannot_be_fetched_is_a_reported_error(node: Runtime, server: ServerProcess) -> None:
    first, state = node.run(
        """let has = false;
           begin(url, { getToken: async () => { if (!has) throw new Error("nobody is logged in"); return "t"; } });
           await until(() => heard("error").length > 1);
           const first = heard("error")[0].message;
           has = true;
           await until(() => client.state === "online" || client.state === "closed");
           const { state } = client;
           await client.close();
           return [first, state];""",
        url=server.url,
    )
    assert first == "nobody is logged in"
    assert state in ("online", "closed")  # a server without token keys may take any


def test_a_token_that_is_no_text_is_an_error_and_no_message(node: Runtime) -> None:
    """A function that gives half a character for a token had the client send what no server reads."""
    messages = node.run(
        """begin("http://127.0.0.1:9", { getToken: () => "😀".slice(1) });
           await until(() => heard("error").length);
           await client.close();
           return heard("error").map(({ message }) => message);"""
    )
    assert "the answer of getToken" in messages[0]
