// Runs programs that come in a line at a time, in this process: {"n", "code"} in, {"n", "result"} or {"n",
// "error"} out.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

globalThis.heartwire = await import(pathToFileURL(process.argv[2]));

const AsyncFunction = (async () => {}).constructor;

async function run({ n, code }) {
  try {
    return { n, result: (await new AsyncFunction(code)()) ?? null };
  } catch (error) {
    return { n, error: `${error.name}: ${error.message}` };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  run(JSON.parse(line)).then(answer => process.stdout.write(`${JSON.stringify(answer)}\n`));
}
process.exit();
