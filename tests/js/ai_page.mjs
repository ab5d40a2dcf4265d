// A page with the AI SDK's chat, as its documents have it: `useChat` with `resume`. An answer is the numbers
// from 0 on; what the page shows that is none of its beginnings is kept in `wrong`.

import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { createElement } from "react";
import { createRoot } from "react-dom/client";

const id = new URLSearchParams(location.search).get("chat");
const transport = new DefaultChatTransport({ api: "/api/chat" });
const seen = { id, wrong: [], statuses: [], words: [], chat: undefined };

const user = (id, text) => ({ id, role: "user", parts: [{ type: "text", text }] });
const textOf = ({ parts }) => parts.map(part => part.text ?? "").join("");

/** What is shown, held against what may be. */
function look(texts) {
  const words = texts.join("|").split(" ").slice(0, -1);
  if (texts.length > 1 || words.some((word, n) => word !== String(n)) || words.length < seen.words.length)
    seen.wrong.push(texts);
  seen.words = words;
}

function Page({ messages: asked }) {
  const chat = useChat({ id, messages: asked, resume: true, transport });
  const texts = chat.messages.filter(({ role }) => role === "assistant").map(textOf);
  look(texts);
  if (seen.statuses.at(-1)?.status !== chat.status)
    seen.statuses.push({ status: chat.status, error: chat.error?.message ?? "", at: Date.now() });
  Object.assign(seen, { chat, last: seen.statuses.at(-1) });
  return createElement("pre", null, ...texts);
}

const asked = await (await fetch(`/api/chat/${id}`)).json();
const messages = asked.map(({ id, text }) => user(id, text));
createRoot(document.body).render(createElement(Page, { messages }));
globalThis.seen = seen;

/** Ask at a time of the clock. */
globalThis.ask = (text, at, message) =>
  void setTimeout(() => seen.chat.sendMessage(user(message, text)), at - Date.now());

/** Stop it, and say when. */
globalThis.stopAnswer = async () => {
  const at = Date.now();
  const response = await fetch(`/api/chat/${id}/stop`, { method: "POST" });
  return { at, stopped: await response.json() };
};
