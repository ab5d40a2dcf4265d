"""An agent whose steps outlive the request, and the worker: AG-UI events, and a run that is handed over.

pip install heartwire fastapi
uvicorn agent_stream:app --port 8000 & uvicorn agent_stream:app --port 8001

curl -N -X POST 'localhost:8000/runs/7?task=tea'
curl -N localhost:8001/runs/7                 # the same run, by way of the other process
kill %1                                       # the other one goes on with it, after its last step

Any asynchronous iterator of tokens or events is a producer. Of LangGraph:

    async for token, _ in graph.astream(state, stream_mode="messages"):
        yield token.content

of PydanticAI:

    async with agent.run_stream(prompt) as result:
        async for text in result.stream_text(delta=True):
            yield text

The agent below needs neither, so that this runs anywhere.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

from heartwire import Hub

hub = Hub(os.environ.get("ENGINE", "sqlite:///runs.db?shared=yes"), drain_s=1)
hub.namespace("run", durable=True, ttl="1d")
app = FastAPI(lifespan=hub.lifespan)

STEPS = {
    "plan": "I shall make {task} in three steps. ",
    "shop": "Everything for {task} is in the house. ",
    "make": "The {task} is made. ",
    "serve": "Here it is. ",
}


async def agent(task: str, done: int = 0) -> AsyncIterator[str | dict[str, Any]]:
    """A graph of steps, from one on: text as it comes, and an event of AG-UI where a step begins and ends."""
    if not done:
        yield {"type": "CUSTOM", "name": "task", "value": task}
    for step, says in list(STEPS.items())[done:]:
        yield {"type": "STEP_STARTED", "stepName": step}
        for word in says.format(task=task).split():
            yield word + " "
            await asyncio.sleep(0.1)
        yield {"type": "STEP_FINISHED", "stepName": step}


@hub.producer("run")
def go_on(name: str, kept: list[str]) -> AsyncIterator[str | dict[str, Any]]:
    """The worker that had the run is being stopped. What is kept of it is its checkpoint."""
    events = [json.loads(event) for event in kept]
    task = next((event["value"] for event in events if event.get("name") == "task"), "nothing")
    return agent(task, sum(event["type"] == "STEP_FINISHED" for event in events))


@app.post("/runs/{id}")
async def start(id: int, task: str) -> Response:
    """Begin a run, once, and follow it."""
    return await hub.stream_response(f"run:{id}", agent(task), format="ag-ui")


@app.get("/runs/{id}")
async def follow(id: int) -> Response:
    """Follow it from its beginning, on any worker."""
    return await hub.resume_response(f"run:{id}", format="ag-ui")


@app.post("/runs/{id}/stop")
async def stop(id: int) -> bool:
    """Stop it."""
    return await hub.cancel_stream(f"run:{id}")
