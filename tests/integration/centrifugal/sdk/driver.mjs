// centrifuge-js, driven by lines of JSON: what to do comes on stdin, results and events go to stdout.
// Arguments: "http_stream" or "sse" instead of WebSocket; "protobuf" instead of JSON (payloads are JSON all
// the same).

import readline from "node:readline";
import EventSource from "eventsource";
import WebSocket from "ws";

const variants = process.argv.slice(2);
const isBinary = variants.includes("protobuf");
const transport = variants.find(name => name !== "protobuf");
const { Centrifuge } = await import(isBinary ? "centrifuge/build/protobuf" : "centrifuge");

// A Protobuf client's payloads are bytes. Those that are not JSON are shown as {bytes: [...]}.
function show(data) {
  if (!isBinary || data === null || data === undefined) return data ?? null;
  if (data.length === 0) return null;
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch {
    return { bytes: [...data] };
  }
}
function payload(data) {
  if (!isBinary || data === undefined) return data;
  return data?.bytes ? new Uint8Array(data.bytes) : new TextEncoder().encode(JSON.stringify(data));
}

const say = message => process.stdout.write(`${JSON.stringify(message)}\n`);
let client;
const subs = new Map();

const position = p => (p ? [p.epoch, p.offset] : null);
const who = info => ({
  user: info.user,
  client: info.client,
  conn: show(info.connInfo),
  chan: show(info.chanInfo),
});
const pub = ctx => ({
  channel: ctx.channel,
  data: show(ctx.data),
  offset: ctx.offset ?? 0,
  info: ctx.info ? who(ctx.info) : null,
  tags: ctx.tags ?? null,
});
const subscribed = ctx => ({
  channel: ctx.channel,
  recovered: ctx.recovered ?? false,
  was_recovering: ctx.wasRecovering ?? false,
  positioned: ctx.positioned ?? false,
  recoverable: ctx.recoverable ?? false,
  position: position(ctx.streamPosition),
  data: show(ctx.data),
});

function listen(target, prefix, channel) {
  const on = (name, tell) => target.on(name, ctx => say({ event: prefix + name, ...tell(ctx) }));
  on("publication", pub);
  on("join", ctx => ({ channel: ctx.channel, ...who(ctx.info) }));
  on("leave", ctx => ({ channel: ctx.channel, ...who(ctx.info) }));
  on("subscribed", subscribed);
  on("subscribing", ctx => ({ channel: ctx.channel, code: ctx.code ?? 0, reason: ctx.reason ?? "" }));
  on("unsubscribed", ctx => ({ channel: ctx.channel, code: ctx.code ?? 0, reason: ctx.reason ?? "" }));
  target.on("error", ctx =>
    say({
      event: `${prefix}error`,
      channel: channel ?? "",
      code: ctx.error.code,
      message: String(ctx.error.message),
    }),
  );
}

const tokened = ({ tokens, ...rest }) =>
  tokens
    ? {
        ...rest,
        getToken: async () => {
          say({ event: "token" });
          return tokens.shift();
        },
      }
    : rest;
const options = ({ data, ...rest }) => tokened(data === undefined ? rest : { ...rest, data: payload(data) });

// The address of the other transports, given the WebSocket's.
function address(url) {
  if (!transport) return [url, {}];
  const base = url.replace(/^ws/, "http").replace("/connection/websocket", "");
  const others = {
    emulationEndpoint: `${base}/emulation`,
    eventsource: EventSource,
    fetch,
    readableStream: ReadableStream,
  };
  return [[{ transport, endpoint: `${base}/connection/${transport}` }], others];
}

const doing = {
  open({ url, options: given }) {
    const [where, others] = address(url);
    client = new Centrifuge(where, {
      ...others,
      websocket: WebSocket,
      minReconnectDelay: 20,
      maxReconnectDelay: 200,
      ...options(given ?? {}),
    });
    listen(client, "server_");
    client.on("connected", ctx =>
      say({ event: "connected", client: ctx.client, transport: ctx.transport, data: show(ctx.data) }),
    );
    client.on("connecting", ctx => say({ event: "connecting", code: ctx.code, reason: ctx.reason }));
    client.on("disconnected", ctx =>
      say({ event: "disconnected", code: ctx.code, reason: ctx.reason ?? null }),
    );
    client.on("message", ctx => say({ event: "message", data: show(ctx.data) }));
    client.connect();
  },
  ready: () => client.ready(5000),
  subscribe({ channels, options: given }) {
    for (const channel of channels) {
      const sub = client.newSubscription(channel, {
        minResubscribeDelay: 20,
        maxResubscribeDelay: 200,
        ...options(given ?? {}),
      });
      subs.set(channel, sub);
      listen(sub, "", channel);
      sub.subscribe();
    }
    return Promise.all(
      channels.map(
        channel =>
          new Promise((done, failed) => {
            const sub = subs.get(channel);
            sub.once("subscribed", () => done());
            sub.once("unsubscribed", ctx => failed({ code: ctx.code, message: ctx.reason }));
          }),
      ),
    ).then(() => null);
  },
  start({ channel, options: given }) {
    const sub = client.newSubscription(channel, {
      minResubscribeDelay: 20,
      maxResubscribeDelay: 200,
      ...options(given ?? {}),
    });
    subs.set(channel, sub);
    listen(sub, "", channel);
    sub.subscribe();
  },
  unsubscribe({ channel }) {
    subs.get(channel).unsubscribe();
  },
  remove({ channel }) {
    client.removeSubscription(subs.get(channel));
    subs.delete(channel);
  },
  async publish({ channel, data }) {
    await client.publish(channel, payload(data));
  },
  async rpc({ method, data }) {
    return show((await client.rpc(method, payload(data))).data);
  },
  async send({ data }) {
    await client.send(payload(data));
  },
  async presence({ channel }) {
    const { clients } = await client.presence(channel);
    return Object.fromEntries(Object.entries(clients).map(([id, info]) => [id, who(info)]));
  },
  async presence_stats({ channel }) {
    const { numClients, numUsers } = await client.presenceStats(channel);
    return [numClients, numUsers];
  },
  async history({ channel, options: given }) {
    const page = await client.history(channel, given);
    return {
      publications: page.publications.map(p => [p.offset, show(p.data)]),
      position: [page.epoch, page.offset],
    };
  },
  async server_history({ channel }) {
    return doing.history({ channel, options: { limit: 10 } });
  },
  close() {
    client.disconnect();
  },
};

readline
  .createInterface({ input: process.stdin })
  .on("line", async line => {
    const command = JSON.parse(line);
    try {
      say({ n: command.n, result: (await doing[command.do](command)) ?? null });
    } catch (error) {
      say({ n: command.n, error: { code: error.code ?? -1, message: String(error.message ?? error) } });
    }
  })
  .on("close", () => process.exit(0));
