// centrifuge-js, driven by lines of JSON: what to do comes on stdin, results and events go to stdout.
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";
import readline from "node:readline";

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");
let client;
const subs = new Map();

const position = (p) => (p ? [p.epoch, p.offset] : null);
const who = (info) => ({ user: info.user, client: info.client, conn: info.connInfo ?? null, chan: info.chanInfo ?? null });
const pub = (ctx) => ({ channel: ctx.channel, data: ctx.data, offset: ctx.offset ?? 0, info: ctx.info ? who(ctx.info) : null, tags: ctx.tags ?? null });
const subscribed = (ctx) => ({
  channel: ctx.channel, recovered: ctx.recovered ?? false, was_recovering: ctx.wasRecovering ?? false, positioned: ctx.positioned ?? false,
  recoverable: ctx.recoverable ?? false, position: position(ctx.streamPosition), data: ctx.data ?? null,
});

function listen(target, prefix, channel) {
  const on = (name, tell) => target.on(name, (ctx) => say({ event: prefix + name, ...tell(ctx) }));
  on("publication", pub);
  on("join", (ctx) => ({ channel: ctx.channel, ...who(ctx.info) }));
  on("leave", (ctx) => ({ channel: ctx.channel, ...who(ctx.info) }));
  on("subscribed", subscribed);
  on("subscribing", (ctx) => ({ channel: ctx.channel, code: ctx.code ?? 0, reason: ctx.reason ?? "" }));
  on("unsubscribed", (ctx) => ({ channel: ctx.channel, code: ctx.code ?? 0, reason: ctx.reason ?? "" }));
  target.on("error", (ctx) => say({ event: prefix + "error", channel: channel ?? "", code: ctx.error.code, message: String(ctx.error.message) }));
}

const options = ({ tokens, ...rest }) => (tokens ? { ...rest, getToken: async () => { say({ event: "token" }); return tokens.shift(); } } : rest);

const doing = {
  open({ url, options: given, transports }) {
    client = new Centrifuge(transports ?? url, { websocket: WebSocket, minReconnectDelay: 20, maxReconnectDelay: 200, ...options(given ?? {}) });
    listen(client, "server_");
    client.on("connected", (ctx) => say({ event: "connected", client: ctx.client, transport: ctx.transport, data: ctx.data ?? null }));
    client.on("connecting", (ctx) => say({ event: "connecting", code: ctx.code, reason: ctx.reason }));
    client.on("disconnected", (ctx) => say({ event: "disconnected", code: ctx.code, reason: ctx.reason ?? null }));
    client.on("message", (ctx) => say({ event: "message", data: ctx.data }));
    client.connect();
  },
  ready: () => client.ready(5000),
  subscribe({ channels, options: given }) {
    for (const channel of channels) {
      const sub = client.newSubscription(channel, { minResubscribeDelay: 20, maxResubscribeDelay: 200, ...options(given ?? {}) });
      subs.set(channel, sub);
      listen(sub, "", channel);
      sub.subscribe();
    }
    return Promise.all(channels.map((channel) => new Promise((done, failed) => {
      const sub = subs.get(channel);
      sub.once("subscribed", () => done());
      sub.once("unsubscribed", (ctx) => failed({ code: ctx.code, message: ctx.reason }));
    }))).then(() => null);
  },
  start({ channel, options: given }) {
    const sub = client.newSubscription(channel, { minResubscribeDelay: 20, maxResubscribeDelay: 200, ...options(given ?? {}) });
    subs.set(channel, sub);
    listen(sub, "", channel);
    sub.subscribe();
  },
  unsubscribe({ channel }) { subs.get(channel).unsubscribe(); },
  remove({ channel }) { client.removeSubscription(subs.get(channel)); subs.delete(channel); },
  async publish({ channel, data }) { await client.publish(channel, data); },
  async rpc({ method, data }) { return (await client.rpc(method, data)).data ?? null; },
  async send({ data }) { await client.send(data); },
  async presence({ channel }) {
    const { clients } = await client.presence(channel);
    return Object.fromEntries(Object.entries(clients).map(([id, info]) => [id, who(info)]));
  },
  async presence_stats({ channel }) { const { numClients, numUsers } = await client.presenceStats(channel); return [numClients, numUsers]; },
  async history({ channel, options: given }) {
    const page = await client.history(channel, given);
    return { publications: page.publications.map((p) => [p.offset, p.data]), position: [page.epoch, page.offset] };
  },
  async server_history({ channel }) { return doing.history({ channel, options: { limit: 10 } }); },
  close() { client.disconnect(); },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const command = JSON.parse(line);
  try {
    say({ n: command.n, result: (await doing[command.do](command)) ?? null });
  } catch (error) {
    say({ n: command.n, error: { code: error.code ?? -1, message: String(error.message ?? error) } });
  }
}).on("close", () => process.exit(0));
