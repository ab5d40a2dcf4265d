// Peer: Node with `ws`, one send per client as in its README; --once builds the frame once and writes it to
// every socket. Usage: node node_ws.mjs MODULES PORT [--once], where MODULES is the folder that holds
// node_modules.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.resolve(process.argv[2], "package.json"));
const { WebSocketServer, Sender } = require("ws");
const once = process.argv[4] === "--once";
const subscribers = new Set();

function broadcast(message) {
  const data = message.toString();
  if (!once) {
    for (const client of subscribers) client.send(data);
    return;
  }
  const [head, body] = Sender.frame(Buffer.from(data), {
    fin: true,
    opcode: 1,
    mask: false,
    readOnly: false,
    rsv1: false,
  });
  const frame = Buffer.concat([head, body]);
  for (const client of subscribers) client._socket.write(frame);
}

const http = createServer();
const server = new WebSocketServer({ server: http, perMessageDeflate: false });
server.on("connection", (client, request) => {
  if (request.url === "/sub") {
    subscribers.add(client);
    client.on("close", () => subscribers.delete(client));
  } else if (request.url === "/echo") {
    client.on("message", message => client.send(message.toString()));
  } else {
    client.on("message", broadcast);
  }
});
http.listen({ port: Number(process.argv[3]), host: "127.0.0.1", backlog: 4096 });
