// The suite has the path /v1/stream in it; the server's address comes from whoever runs this.
import { runConformanceTests } from "@durable-streams/server-conformance-tests";

runConformanceTests({ baseUrl: process.env.SERVER_URL, longPollTimeoutMs: 3000 });
