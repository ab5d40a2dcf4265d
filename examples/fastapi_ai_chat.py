"""A chat with a model whose answers survive refreshes, closed tabs, bad networks and deploys.

pip install heartwire fastapi
uvicorn fastapi_ai_chat:app --workers 2

Open http://127.0.0.1:8000, ask, and reload in the middle; open the address in another tab, and stop it there.
Kill a worker with `kill -9`: within the lease the answer ends as interrupted, and its text stays.

The page needs no build step. The addresses are those of the AI SDK, so in React it is
`useChat({ id, resume: true })`, and `fetch("/api/chat/ID/stop", { method: "POST" })` to stop.
"""

import asyncio
import os
import random
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import HTMLResponse, Response

from heartwire import Hub

hub = Hub(os.environ.get("ENGINE", "sqlite:///answers.db?shared=yes"))
hub.namespace("answer", durable=True, ttl="1d")  # an answer is gone a day after its last use
app = FastAPI(lifespan=hub.lifespan)

# Which message was asked in which chat. A real application has a database for it, and asks who the user is.
chats = sqlite3.connect(os.environ.get("CHATS", "chats.db"), isolation_level=None, check_same_thread=False)
chats.execute("CREATE TABLE IF NOT EXISTS asked (chat, message, text, UNIQUE (chat, message))")


class Chat(BaseModel):
    """What the AI SDK sends; there is more in it."""

    id: str
    messages: list[dict[str, Any]]


NEXT = {
    "the": ["page", "words", "answer"],
    "page": ["goes", "comes"],
    "words": ["stay", "come"],
    "answer": ["stays", "goes"],
    "and": ["the"],
}


async def model(question: str) -> AsyncIterator[str]:
    """A tiny model of words, in the place of yours."""
    word = "the"
    for _ in range(80):
        yield word + " "
        word = random.choice(NEXT.get(word, ["and"]))
        await asyncio.sleep(0.1)
    yield f"\n(You asked: {question})"


@app.post("/api/chat")
async def ask(chat: Chat) -> Response:
    """The message's answer: a run that is begun once, whoever asks how often."""
    message = chat.messages[-1]
    text = " ".join(part.get("text", "") for part in message["parts"])
    chats.execute("INSERT OR IGNORE INTO asked VALUES (?, ?, ?)", (chat.id, message["id"], text))
    return await hub.stream_response(f"answer:{message['id']}", model(text), format="ai-sdk")


@app.get("/api/chat/{id}")
async def asked(id: str) -> list[dict[str, str]]:
    """What was asked so far."""
    rows = chats.execute("SELECT message, text FROM asked WHERE chat = ? ORDER BY rowid", (id,))
    return [{"id": message, "text": text} for message, text in rows]


@app.get("/api/chat/{id}/stream")
async def resume(id: str, message: str = "") -> Response:
    """The answer to a message, by default to the last one: from its first word, whether it goes on or not."""
    return await hub.resume_response(f"answer:{message or await last(id)}", format="ai-sdk")


@app.post("/api/chat/{id}/stop")
async def stop(id: str) -> bool:
    """Stop the last answer, whichever worker it runs on."""
    return await hub.cancel_stream(f"answer:{await last(id)}")


async def last(chat: str) -> str:
    """The message that was asked last."""
    messages = await asked(chat)
    return messages[-1]["id"] if messages else "none"


@app.get("/")
async def page() -> HTMLResponse:
    """The chat. Its name is in the address, so that other tabs may have it too."""
    return HTMLResponse(PAGE)


PAGE = """<!doctype html>
<meta charset="utf-8"><title>Answers that survive</title>
<style>
  body { font: 16px/1.5 system-ui; max-width: 40em; margin: 2em auto; padding: 0 1em }
  .asked { font-weight: bold } .answer { white-space: pre-wrap } .why { color: #a00 }
</style>
<div id="chat"></div>
<form><input name="text" autocomplete="off" placeholder="Ask" autofocus> <button>Send</button>
<button type="button" id="stop">Stop</button></form>
<script type="module">
  location.hash ||= crypto.randomUUID();
  const id = location.hash.slice(1), api = "/api/chat", shown = new Set();
  const json = { "content-type": "application/json" };

  // Reads an answer to its end into an element. A network that fails is no end: it is asked for again, which begins no
  // other one, and read from its first word.
  async function show(element, request) {
    for (;;) {
      try {
        const response = await request();
        if (response.ok && await read(response, element)) return;
      } catch {}
      await wait(500 + 500 * Math.random());
    }
  }

  async function read(response, element) {
    let kept = "", text = "";
    for await (const piece of pieces(response)) {
      const events = (kept + piece).split("\\n\\n");
      kept = events.pop();
      for (const event of events) {
        if (!event.startsWith("data: ")) continue;
        if (event === "data: [DONE]") return true;
        const chunk = JSON.parse(event.slice(6));
        if (chunk.type === "text-delta") element.textContent = text += chunk.delta;
        if (chunk.type === "error") element.after(note(chunk.errorText));
        if (chunk.type === "abort") element.after(note("stopped"));
      }
    }
    return response.status === 204;
  }

  async function* pieces(response) {
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (let part; reader && !(part = await reader.read()).done;) yield part.value;
  }

  const line = (kind, text) => Object.assign(document.createElement("p"), { className: kind, textContent: text });
  const note = text => line("why", text);
  const wait = ms => new Promise(resolve => setTimeout(resolve, ms));

  function add(message, text, request) {
    const answer = Object.assign(line("answer", ""), { id: message });
    chat.append(line("asked", text), answer);
    shown.add(message);
    show(answer, request);
  }

  document.forms[0].onsubmit = event => {
    event.preventDefault();
    const message = { id: crypto.randomUUID(), role: "user", parts: [{ type: "text", text: event.target.text.value }] };
    const body = JSON.stringify({ id, messages: [message] });
    add(message.id, event.target.text.value, () => fetch(api, { method: "POST", headers: json, body }));
    event.target.reset();
  };
  document.querySelector("#stop").onclick = () => fetch(`${api}/${id}/stop`, { method: "POST" });

  // What was asked before, and in other tabs.
  for (;; await wait(2000)) {
    const asked = await fetch(`${api}/${id}`).then(response => response.json(), () => []);
    for (const { id: message, text } of asked)
      if (!shown.has(message)) add(message, text, () => fetch(`${api}/${id}/stream?message=${message}`));
  }
</script>
"""
