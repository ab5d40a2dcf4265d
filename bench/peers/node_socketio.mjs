// Peer: Node with socket.io, one emit to all. Usage: node node_socketio.mjs MODULES PORT.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.resolve(process.argv[2], "package.json"));
const { Server } = require("socket.io");
const http = createServer();
// Pings rest longer than a run lasts, as for every peer.
const io = new Server(http, { pingInterval: 600000, pingTimeout: 600000, perMessageDeflate: false });
io.on("connection", socket => {
  socket.on("pub", message => socket.broadcast.emit("m", message));
  socket.on("each", message => {
    for (const sid of io.sockets.sockets.keys()) if (sid !== socket.id) io.to(sid).emit("m", message);
  });
  socket.on("echo", message => socket.emit("m", message));
});
http.listen({ port: Number(process.argv[3]), host: "127.0.0.1", backlog: 4096 });
