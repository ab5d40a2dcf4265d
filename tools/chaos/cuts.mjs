// Three socket.io-clients (polling, WebSocket, an upgrade) through a proxy that cuts: node cuts.mjs PORT.
// Reads commands, a line each (cut, mute, heal, stop), and prints what the clients saw, as JSON, at the end.
import net from "node:net";
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const port = Number(process.argv[2]);
const MODES = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };
const pairs = new Set();
let isOpen = true;

const proxy = net.createServer(client => {
  if (!isOpen) {
    client.resetAndDestroy();
    return;
  }
  const server = net.connect(port, "127.0.0.1");
  const pair = { client, server, isMute: false };
  pairs.add(pair);
  for (const [from, to] of [
    [client, server],
    [server, client],
  ]) {
    from.on("data", data => !pair.isMute && to.write(data));
    from.on("error", () => {});
    from.on("close", () => {
      if (!pair.isMute) to.destroy();
      pairs.delete(pair);
    });
  }
});
await new Promise(resolve => proxy.listen(0, "127.0.0.1", resolve));

const clients = Object.entries(MODES).map(([mode, transports]) => {
  const saw = { mode, got: [], recovered: [], strangers: 0 };
  const socket = io(`http://127.0.0.1:${proxy.address().port}`, {
    transports,
    forceNew: true,
    reconnectionDelay: 100,
    reconnectionDelayMax: 300,
  });
  socket.on("connect", () => saw.recovered.push(Boolean(socket.recovered)));
  socket.on("tick", (who, n) => saw.got.push([who, n]));
  socket.on("other room", () => {
    saw.strangers += 1;
  });
  return { saw, socket };
});

for await (const command of createInterface({ input: process.stdin })) {
  if (command === "cut" || command === "mute") {
    isOpen = false;
    for (const pair of pairs) {
      pair.isMute = command === "mute";
      pair.client.resetAndDestroy();
      if (!pair.isMute) pair.server.resetAndDestroy();
    }
  } else if (command === "heal") isOpen = true;
  else break;
}
process.stdout.write(JSON.stringify(clients.map(({ saw }) => saw)));
process.exit(0);
