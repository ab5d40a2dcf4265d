// socket.io-client against a server of tests: node client.mjs URL polling|websocket|upgrade.
// Prints what it saw, as JSON.
import { io } from "socket.io-client";

const [url, mode] = process.argv.slice(2);
const transports = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] }[
  mode
];
const options = { transports, forceNew: true, reconnection: false };
const saw = {};

function event(socket, name) {
  return new Promise(resolve => socket.once(name, (...found) => resolve(found)));
}

const socket = io(url, { ...options, auth: { token: "secret" } });
const [welcome] = await Promise.all([event(socket, "welcome"), event(socket, "connect")]);
saw.auth = welcome[0];
saw.recovered = Boolean(socket.recovered);
if (mode === "upgrade") {
  if (socket.io.engine.transport.name !== "websocket") await event(socket.io.engine, "upgrade");
}
saw.transport = socket.io.engine.transport.name;

saw.answer = await socket.emitWithAck("sum", 1, 2);
saw.values = await socket.emitWithAck("values", "a");
saw.nothing = await socket.emitWithAck("nothing");
const bytes = await socket.emitWithAck("binary", { deep: [Buffer.from([1, 2, 3])] });
saw.binary = [Buffer.isBuffer(bytes.deep[0]), [...bytes.deep[0]]];
socket.on("question", (text, answer) => answer(`${text}!`, 2));
saw.called = await socket.emitWithAck("call me", "hello");
const many = [];
socket.on("n", (n, blob) => many.push([n, [...blob]]));
await socket.emitWithAck("many", 20);
saw.many = many;
socket.volatile.emit("volatile", 1);
saw.volatile = await socket.emitWithAck("volatile?");
saw.late = await socket
  .timeout(50)
  .emitWithAck("never")
  .catch(error => error.message);

const other = io(url, options);
await event(other, "connect");
await other.emitWithAck("enter", "room");
const inRoom = event(other, "to room");
await socket.emitWithAck("tell", "room", { text: "hi" });
saw.room = (await inRoom)[0];

const admin = io(`${url}/admin`, options);
const [refused] = await event(admin, "connect_error");
saw.refused = [refused.message, refused.data];
const nowhere = io(`${url}/nowhere`, options);
saw.nowhere = (await event(nowhere, "connect_error"))[0].message;
const named = io(`${url}/admin`, { ...options, auth: { token: "secret" } });
await event(named, "connect");
saw.named = await named.emitWithAck("whoami");

other.emit("disconnect me");
saw.expelled = (await event(other, "disconnect"))[0];
const left = socket.id;
socket.disconnect();
saw.left = left;

const again = io(url, { ...options, retries: 3, ackTimeout: 100 });
await event(again, "connect");
saw.retried = await new Promise(resolve =>
  again.emit("second time", (error, value) => resolve(error ? error.message : value)),
);
saw.reasons = await again.timeout(2000).emitWithAck("reasons", left);

process.stdout.write(JSON.stringify(saw));
process.exit(0);
