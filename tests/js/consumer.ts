// Uses all of heartwire.d.ts as an application does, and holds the modules to it. `make check` compiles it;
// nothing runs it.
import * as made from "../../src/heartwire/web/client/index.js";
import {
  type Address,
  Client,
  type ClientEvents,
  connect,
  DEFAULTS,
  type Gap,
  HeartwireError,
  type Member,
  type Note,
  type Options,
  type Publication,
  type State,
  type Stream,
  type StreamHead,
  type StreamProducer,
  type Subscription,
  stream,
  TRANSPORTS,
  type Transport,
} from "../../src/heartwire/web/heartwire.js";

type Chat = { text: string };

// The modules have what is declared, and take what is declared.
const makes: (url?: Address, options?: Options) => Pick<Client, Exclude<keyof Client, keyof EventTarget>> =
  made.connect;
const streams: (url: string | URL, options?: Options) => Pick<Stream, keyof Stream> = made.stream;
const defaults: typeof DEFAULTS = { ...made.DEFAULTS, transports: TRANSPORTS, firstTransport: null };
const names: keyof typeof made extends keyof typeof import("../../src/heartwire/web/heartwire.js")
  ? true
  : false = true;
const error: HeartwireError = new made.HeartwireError(0, "given up", true);

const options: Options = {
  transports: ["websocket", "sse"],
  firstTransport: "sse",
  pingIntervalS: 20,
  maxPendingBytes: DEFAULTS.maxPendingBytes,
  getToken: async () => "token",
  data: { name: "ann" },
  headers: { "x-tenant": "a" },
  signal: AbortSignal.timeout(1000),
  storage: null,
  debugUrl: { host: "127.0.0.1", port: 8000 },
  WebSocket,
  fetch,
};
// @ts-expect-error: names are camelCase
const old: Options = { ping_interval_s: 20 };

export async function everything(client: Client = connect("https://example.com", options)): Promise<void> {
  const subscription: Subscription<Chat> = client.subscribe<Chat>(
    "chat:1",
    publication => publication.data.text.trim(),
    {
      since: "earliest",
      token: "t",
      signal: AbortSignal.abort(),
      onGap: ({ before, after }: Gap) => before + after,
    },
  );
  await subscription.ready;
  for await (const { data, position, isBytes } of subscription) if (isBytes) console.log(data.text, position);
  const position: string = await client.publish("chat:1", { text: "hi" }, { idempotencyKey: "k" });
  const members: Record<string, Member> = await client.presence("chat:1");
  const { publications } = await client.history<Chat>("chat:1", {
    limit: 10,
    since: position,
    reverse: true,
  });
  const kept: Publication<Chat>[] = publications;
  const raw: string[] = kept.map(({ json }) => json);
  const sum = await client.rpc<number>("sum", [1, 2]);
  const state: State = client.state;
  const transport: Transport | "" = client.transport;
  console.log(kept, raw, sum, state, transport, client.pending, client.clientId, members.a?.connInfo);
  client.on("close", ({ wasOpen, nextAttemptS }) => console.log(wasOpen, nextAttemptS.toFixed()));
  client.on("note", ({ kind, transport, reason, next, text }: Note) => [kind, transport, reason, next, text]);
  client.once("error", ({ error }) => error instanceof HeartwireError && error.isUnknown);
  client.addEventListener("state", ({ detail }: CustomEvent<ClientEvents["state"]>) => detail.transport);
  subscription.on("subscribed", ({ wasRecovered }) => wasRecovered)();
  // @ts-expect-error: no such event
  client.on("closed", () => {});
  const answer: Stream<string> = client.stream<string>("answer:1", { path: "v1/stream" });
  const isNew: boolean = await answer.create({ contentType: "text/plain", ttlS: 60, closed: false });
  for await (const text of answer) console.log(text.trim(), answer.offset, answer.closed, isNew);
  for await (const one of answer.read({ offset: "now", live: "long-poll", signal: AbortSignal.abort() }))
    console.log(one.trim());
  const out: StreamProducer = stream("/streams/a", options).producer({ id: "p", epoch: 1, autoClaim: true });
  const offset: string = (await out.append("x")) + (await out.flush()) + (await out.close("end"));
  const head: StreamHead = await answer.head();
  await answer.close().then(() => answer.delete());
  console.log(offset, out.id, out.epoch, head.ttlS, answer.url, answer.contentType, error.reason, streams);
  await new Client().close();
  console.log(makes, defaults, names, error, old);
}
