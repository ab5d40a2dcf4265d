// The protocol's official client, as one writer and two readers of one stream. The writer goes on until its
// input ends; then it closes the stream, and what each reader got is printed.
import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client";

const [url, kind] = process.argv.slice(2);
const isJson = kind === "json";
const backoffOptions = { initialDelay: 20, maxDelay: 100, multiplier: 1.3 };
const sseResilience = {
  logWarnings: false,
  maxShortConnections: Infinity,
  backoffBaseDelay: 20,
  backoffMaxDelay: 100,
};
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

/** The producer makes its application retry what the network has failed. */
async function persistent(target, options) {
  for (;;) {
    try {
      const answer = await fetch(target, { ...options, signal: AbortSignal.timeout(200) });
      if (answer.status < 500) return answer;
      await answer.arrayBuffer();
    } catch {}
    await sleep(Math.random() * 20);
  }
}

/** Read to the end. What fails or falls silent is begun again, after what it had brought. */
async function read(live) {
  let offset = "-1";
  let isEnded = false;
  const pieces = [];
  while (!isEnded) {
    const over = new AbortController();
    const { signal } = over;
    const silence = setInterval(() => over.abort(), 300);
    try {
      const reading = await stream({ url, offset, live, backoffOptions, sseResilience, signal });
      const take = batch => {
        if (signal.aborted) return; // the next one brings it again
        silence.refresh();
        offset = batch.offset;
        pieces.push(...(isJson ? batch.items : [batch.text]));
        isEnded = batch.streamClosed;
        if (isEnded) over.abort();
      };
      if (isJson) reading.subscribeJson(take);
      else reading.subscribeText(take);
      reading.closed.catch(() => over.abort()); // it may be fulfilled before the last batch comes
      if (!signal.aborted) await new Promise(resolve => signal.addEventListener("abort", resolve));
    } catch {}
    clearInterval(silence);
  }
  return isJson ? pieces : pieces.join("").split(" ").filter(Boolean).map(Number);
}

const contentType = isJson ? "application/json" : "text/plain";
const handle = await DurableStream.create({ url, contentType, fetch: persistent });
const reading = Promise.all([read("sse"), read("long-poll")]);
let isOver = false;
process.stdin.on("end", () => (isOver = true)).resume();
const errors = [];
const onError = error => errors.push(String(error));
const producer = new IdempotentProducer(handle, "writer", { fetch: persistent, lingerMs: 1, onError });
let count = 0;
while (!isOver) {
  producer.append(isJson ? String(count) : `${count} `);
  count += 1;
  await sleep(2);
}
await producer.close(isJson ? String(count) : `${count} `);
const [sse, longPoll] = await reading;
console.log(JSON.stringify({ count: count + 1, errors, sse, longPoll }));
process.exit();
