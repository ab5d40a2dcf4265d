"""The example's chat, with a page of the AI SDK beside its own, and a model whose answers a test ends. For a
process of its own: it changes what a `Hub` is."""

import asyncio
import functools
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.responses import FileResponse, HTMLResponse

import heartwire
from tests.integration.test_examples import load

__all__ = ["app"]

_FOLDER: Final = Path(os.environ.get("FOLDER", "."))

heartwire.Hub = functools.partial(heartwire.Hub, stream_lease_s=float(os.environ["LEASE_S"]), drain_s=1)  # type: ignore[assignment,misc]
_chat: Any = load("fastapi_ai_chat")
app: FastAPI = _chat.app


async def model(question: str) -> AsyncIterator[str]:
    """The numbers from 0 on, until there is a file of the question's name."""
    with (_FOLDER / "runs").open("a") as runs:
        runs.write(f"{question}\n")
    number = 0
    while not (_FOLDER / question).exists():
        yield f"{number} "
        number += 1
        await asyncio.sleep(0.02)


_chat.model = model


@app.get("/ai")
async def page() -> HTMLResponse:
    return HTMLResponse(
        '<!doctype html><meta charset="utf-8"><body><script type="module" src="/ai.js"></script>'
    )


@app.get("/ai.js")
async def script() -> FileResponse:
    return FileResponse(_FOLDER / "ai.js")


@app.get("/favicon.ico", status_code=204)
async def icon() -> None:
    """Browsers ask for one."""
