// Peer: the reference server of the Durable Streams protocol, in memory. Usage: node node_durable_streams.mjs
// MODULES PORT, where MODULES is the folder that holds node_modules.

import path from "node:path";
import { pathToFileURL } from "node:url";

const package_ = path.resolve(process.argv[2], "node_modules/@durable-streams/server/dist/index.js");
const { DurableStreamTestServer } = await import(pathToFileURL(package_).href);
const server = new DurableStreamTestServer({ port: Number(process.argv[3]), host: "127.0.0.1" });
await server.start();
