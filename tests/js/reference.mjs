// The reference server of the Durable Streams protocol, until its input ends. Prints its address.
import { DurableStreamTestServer } from "@durable-streams/server";

const server = new DurableStreamTestServer({ port: 0, longPollTimeout: 1000 });
process.stdout.write(`${await server.start()}\n`);
for await (const _ of process.stdin);
process.exit();
