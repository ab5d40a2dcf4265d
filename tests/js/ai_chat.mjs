// The AI SDK's own chat reads an answer given as text, and resumes it once more, as after a refresh.

import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";

const answer = process.argv[3];
const errors = [];
const transport = new DefaultChatTransport({ fetch: async () => new Response(answer) });
const chat = new Chat({ id: "c", transport, onError: error => errors.push(error.message) });

await chat.sendMessage({ text: "?" });
const sent = JSON.stringify(chat.messages.slice(1));
await chat.resumeStream();
console.log(
  JSON.stringify({
    parts: chat.messages[1]?.parts ?? [],
    ids: chat.messages.slice(1).map(message => message.id),
    isSame: sent === JSON.stringify(chat.messages.slice(1)),
    status: chat.status,
    errors,
  }),
);
