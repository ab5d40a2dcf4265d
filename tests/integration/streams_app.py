"""Runs that count until a test ends them, on one of several workers."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from heartwire import Hub

FOLDER: Final = Path(os.environ.get("FOLDER", "."))
PAUSE_S: Final = 0.2
LEASE_S: Final = 2

hub = Hub(os.environ.get("ENGINE", "memory://"), stream_lease_s=LEASE_S, drain_s=1)
hub.namespace("long", durable=True)
hub.namespace("short", durable=True)
app = FastAPI(lifespan=hub.lifespan)


async def count(name: str, number: int = 0) -> AsyncIterator[str]:
    """Numbers, until there is a file with the name of the namespace. Who counts, says so in the file `runs`."""
    with (FOLDER / "runs").open("a") as runs:
        runs.write(f"{name} {number} {os.getpid()}\n")
    while not (FOLDER / name.partition(":")[0]).exists():
        yield str(number)
        number += 1
        await asyncio.sleep(PAUSE_S)


@hub.producer("long")
def go_on(name: str, kept: list[str]) -> AsyncIterator[str]:
    return count(name, len(kept))


@app.post("/{name}")
async def start(name: str) -> Response:
    return await hub.stream_response(name, count(name), format="sse")


@app.get("/{name}")
async def follow(name: str, request: Request) -> Response:
    return await hub.resume_response(name, format="sse", after=request.headers.get("last-event-id"))
