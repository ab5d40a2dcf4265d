// Many clients of socket.io-client, each request on a connection of its own: node crowd.mjs URL MODE COUNT.
//
// Prints a line of JSON once all have settled: who has connected, and has had an answer. Then, for each line
// of input, what they have seen by then.
import readline from "node:readline";
import { io } from "socket.io-client";

const [url, mode, count] = process.argv.slice(2);
const transports = { default: ["polling", "websocket"], polling: ["polling"], websocket: ["websocket"] }[
  mode
];
const options = {
  transports,
  forceNew: true,
  agent: false,
  reconnectionDelay: 50,
  reconnectionDelayMax: 200,
};

class Client {
  constructor(number) {
    this.number = number;
    this.last = {}; // by the process that counts
    this.lost = this.doubled = this.disconnects = this.fresh = this.hasCome = 0;
    this.errors = [];
    this.socket = io(url, options);
    this.socket.on("tick", (process, tick) => this.tick(process, tick));
    this.socket.on("disconnect", () => (this.disconnects += this.hasCome)); // also told before it has come
    this.socket.on("connect", () => this.came());
    this.socket.on("connect_error", error => this.errors.push(error.message));
  }

  came() {
    this.hasCome = 1;
    if (this.disconnects && !this.socket.recovered) {
      this.fresh++;
      this.last = {};
    }
  }

  tick(process, tick) {
    const next = (this.last[process] ?? tick - 1) + 1;
    if (tick > next) this.lost += tick - next;
    if (tick < next) this.doubled++;
    this.last[process] = tick;
  }

  async ask() {
    const { sum, pid, forwarded } = await this.socket.timeout(20000).emitWithAck("sum", this.number, 1);
    Object.assign(this, { process: pid, forwarded });
    return sum === this.number + 1;
  }

  get told() {
    const transport = this.socket.io.engine?.transport?.name;
    const { lost, doubled, disconnects, fresh, errors, process, forwarded, last } = this;
    const { connected } = this.socket;
    return { connected, transport, lost, doubled, disconnects, fresh, errors, process, forwarded, last };
  }
}

async function tell() {
  const answered = await Promise.all(clients.map(client => client.ask().catch(() => false)));
  console.log(JSON.stringify(clients.map((client, at) => ({ answered: answered[at], ...client.told }))));
}

const clients = Array.from({ length: Number(count) }, (_, number) => new Client(number));
await tell();
for await (const _ of readline.createInterface({ input: process.stdin })) await tell();
process.exit(0);
