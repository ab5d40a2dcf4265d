/*
 * Heartwire live comparison, 2 of 2: the dialog.
 *
 * For each transport a lane, in which every message is a line from its publication to its arrival, and a
 * table of figures. `?compare-seconds=30` in the page's address makes a run
 * longer or shorter.
 */

import { $, make } from "../demo/parts.js";
import { KINDS, Run } from "./run.js";

const SECONDS = 12;
const MOST_SECONDS = 60;
const ROOM_S = 2.5; // on the time axis, after the last message: for a poll a second later, and one more
const FIGURES_EVERY_MS = 250;
const LANE = { height: 68, name: 11, sent: 22, came: 46, asked: 50, tick: 7 };

const whole = value => Math.round(value).toLocaleString("en");
const brief = value => (value < 10 ? value.toFixed(1) : whole(value));

const LATENCY = { unit: "ms", show: brief, scale: "latency" };

/** The table's rows. With a `scale`, bars: rows of the same scale have the same. */
const ROWS = [
  { figure: "received", title: "Received", unit: "messages", of: lane => lane.received },
  { figure: "lost", title: "Lost", unit: "messages", of: lane => lane.lost, isNever: true },
  { figure: "doubled", title: "Doubled", unit: "messages", of: lane => lane.doubled, isNever: true },
  { figure: "p50", title: "Latency p50", of: lane => lane.latencyMs(0.5), ...LATENCY },
  { figure: "max", title: "Latency max", of: lane => lane.latencyMs(1), ...LATENCY },
  { figure: "requests", title: "Requests made", unit: "count", of: lane => lane.requests, scale: "requests" },
  { figure: "down", title: "Payload received", unit: "B", of: lane => lane.downBytes, scale: "bytes" },
  { figure: "up", title: "Payload sent", unit: "B", of: lane => lane.upBytes, scale: "bytes" },
];

const NOTES = [
  "Latency is from right before the publisher sends until the follower’s callback runs, by this page’s " +
    "clock: the way up, the server, " +
    "and the way down. p50: half of the messages took no longer.",
  "Requests are calls of fetch and WebSocket handshakes, from the first on. Those with which a client " +
    "connects and subscribes stand at 0 s.",
  "Payload is the bodies of requests and answers, and what WebSocket frames carry. A page can’t see the " +
    "rest: HTTP headers (each request and each answer has them), headers of frames, control frames, TLS, " +
    "TCP. So whoever asks often pays more than is shown.",
  "At five messages a second a long poll is a request for each message. It is made for rare news.",
];

const READING =
  "Each line is a message, from when it was published (above) to when it was received (below): " +
  "the steeper, the sooner.";

const PHASES = { connecting: "Connecting …", publishing: "", finishing: "Waiting for the last …" };

/** An SVG element. */
function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Four lanes over one axis of time. Places are in percent of the width, so that it fits any page. */
class Plot {
  element = draw("svg", { class: "lanes", role: "img", height: KINDS.length * LANE.height + 18 });
  #axisS;
  #tops;
  #captions = new Map(); // by lane

  constructor(lanes, seconds) {
    this.#axisS = seconds + ROOM_S;
    this.#tops = new Map(lanes.map((lane, index) => [lane, index * LANE.height]));
    const what = "When messages were published and when they came, by transport; the table has the figures";
    this.element.append(draw("title", {}, what));
    this.#drawAxis(lanes.length * LANE.height);
    for (const [lane, top] of this.#tops) {
      const y = top + LANE.name;
      const caption = draw("text", { class: "q", x: "100%", y, "text-anchor": "end" });
      this.#captions.set(lane, caption);
      this.element.append(draw("text", { class: `b t-${lane.name}`, y }, lane.label), caption);
      for (const at of [top + LANE.sent, top + LANE.came])
        this.element.append(draw("line", { class: "g", x2: "100%", y1: at, y2: at }));
    }
  }

  #drawAxis(bottom) {
    const step = [1, 2, 5, 10, 20].find(one => this.#axisS / one <= 8) ?? 20;
    for (let at = 0; at <= this.#axisS; at += step) {
      const place = { x: this.#x(at * 1000), y: bottom + 12, "text-anchor": at ? "middle" : "start" };
      this.element.append(draw("text", { class: "q", ...place }, `${at} s`));
    }
  }

  #x(atMs) {
    return `${Math.min(100, (Math.max(0, atMs) / this.#axisS) * 0.1).toFixed(2)}%`;
  }

  /** Too late for the axis; the table has it all the same. */
  #isBeyond(atMs) {
    return atMs > this.#axisS * 1000;
  }

  sent({ atMs }) {
    for (const [lane, top] of this.#tops) {
      const place = { cx: this.#x(atMs), cy: top + LANE.sent, r: 1.6 };
      if (!lane.problem) this.element.append(draw("circle", { class: "sent", ...place }));
    }
  }

  arrived({ lane, sentMs, atMs }) {
    const top = this.#tops.get(lane);
    const [x1, x2, y1, y2] = [this.#x(sentMs), this.#x(atMs), top + LANE.sent, top + LANE.came];
    this.element.append(draw("line", { class: `way t-${lane.name}`, x1, x2, y1, y2 }));
    if (this.#isBeyond(atMs)) return;
    this.element.append(draw("circle", { class: `came t-${lane.name}`, cx: x2, cy: y2, r: 2.4 }));
  }

  request({ lane, atMs }) {
    if (this.#isBeyond(atMs)) return;
    const x = this.#x(atMs);
    const y = this.#tops.get(lane) + LANE.asked;
    this.element.append(draw("line", { class: "asked", x1: x, x2: x, y1: y, y2: y + LANE.tick }));
  }

  caption(lane) {
    const p50 = lane.latencyMs(0.5);
    const requests = `${whole(lane.requests)} request${lane.requests === 1 ? "" : "s"}`;
    const text = p50 === null ? requests : `p50 ${brief(p50)} ms · ${requests}`;
    this.#captions.get(lane).textContent = lane.problem ? "not reached" : text;
  }
}

/** Transports side by side, a figure a row, its unit beside its name. */
class Table {
  element;
  #cells = [];

  constructor(lanes) {
    const heads = lanes.map(lane => make("th", { scope: "col", className: `t-${lane.name}` }, lane.label));
    const rows = ROWS.map(row => {
      const cells = lanes.map(lane => {
        const cell = make("td", {}, make("span", {}, "–"));
        if (row.scale) cell.append(make("i", { className: `t-${lane.name}` }));
        Object.assign(cell.dataset, { kind: lane.name, figure: row.figure });
        this.#cells.push({ row, lane, cell });
        return cell;
      });
      const head = make("th", { scope: "row" }, `${row.title} `, make("small", {}, row.unit));
      return make("tr", {}, head, ...cells);
    });
    const caption = make("caption", { className: "sr" }, "Figures by transport");
    const head = make("thead", {}, make("tr", {}, make("td", {}), ...heads));
    this.element = make("table", {}, caption, head, make("tbody", {}, ...rows));
  }

  show(isMeasured) {
    const most = {};
    for (const { row, lane } of this.#cells)
      if (row.scale) most[row.scale] = Math.max(most[row.scale] ?? 0, row.of(lane) ?? 0);
    for (const { row, lane, cell } of this.#cells) {
      const value = lane.problem || !isMeasured ? null : row.of(lane);
      cell.firstChild.textContent = value === null ? "–" : (row.show ?? whole)(value);
      if (row.scale) cell.lastChild.style.setProperty("--part", value ? value / most[row.scale] : 0);
      if (row.isNever) cell.className = value === null ? "" : value ? "bad" : "good";
    }
  }
}

/** The result, in a sentence or two. */
function verdict(run, wasHidden) {
  const lanes = run.lanes.filter(lane => !lane.problem);
  const parts = [];
  const [lost, doubled] = ["lost", "doubled"].map(what => lanes.reduce((sum, lane) => sum + lane[what], 0));
  if (run.isSettled && !lost && !doubled)
    parts.push("Nothing was lost or doubled on any of these transports.");
  else if (lost || doubled) parts.push(`${lost} lost, ${doubled} doubled.`);
  const timed = lanes.filter(lane => lane.latencyMs(0.5) !== null).reverse();
  const each = timed.map(lane => `${brief(lane.latencyMs(0.5))} ms (${lane.label})`).join(", ");
  if (each) parts.push(`Half of the messages came within ${each}.`);
  for (const lane of run.lanes)
    if (lane.problem) parts.push(`${lane.label} could not be followed from here: ${lane.problem}.`);
  if (run.refusal) parts.push(`Not every message was taken by the server: ${run.refusal}.`);
  if (wasHidden)
    parts.push(
      "The page was in the background for a while. Browsers slow it down there, so the latencies say little.",
    );
  return parts.join(" ");
}

class LiveComparison {
  #seconds = secondsAsked();
  #run = /** @type {Run | null} */ (null); // under way: one at most
  #last = Promise.resolve();
  #plot = /** @type {any} */ (null);
  #table = /** @type {any} */ (null);
  #wasHidden = false;
  #isStopping = false;
  #say = make("p", { className: "says" });
  #bar = make("progress", { max: 1, value: 0, ariaLabel: "Progress of the comparison" });
  #verdict = make("p", { className: "verdict" });
  #figures = make("div", { className: "figures" });
  #button = make("button", { type: "button", className: "button", autofocus: true }, "Stop");
  #dialog;

  constructor() {
    const onclick = () => this.#dialog.close();
    const closing = { type: "button", className: "button close", ariaLabel: "Close", onclick };
    const title = make("h2", { id: "h-compare-live" }, "The transports, compared live");
    const lead =
      "Four clients in this page follow one channel, each over one transport. A fifth publishes " +
      "5 messages a second, " +
      `for ${this.#seconds} s. It is the real network: the weather of the demo is not on their way.`;
    const named = { sent: "published", way: "on its way", came: "received", asked: "request" };
    const marks = Object.entries(named).map(([className, text]) => make("span", { className }, text));
    const key = make("p", { className: "lanes-key", ariaHidden: "true" }, ...marks);
    const more = make(
      "p",
      { className: "hint" },
      "What a page can’t see, servers, and links that fail: ",
      make("a", { href: "compare.html", target: "_blank", rel: "noopener" }, "the full comparison"),
      ", and ",
      make("code", {}, "heartwire compare"),
      " measures it on your network.",
    );
    this.#verdict.setAttribute("role", "status");
    this.#button.onclick = () => (this.#run ? this.#stop() : this.#start());
    this.#dialog = make(
      "dialog",
      { id: "compare-live", onclose: () => this.#dialog.open || this.#stop() },
      make("header", {}, title, make("button", closing, "×")),
      make("p", { className: "hint" }, lead),
      make("div", { className: "progress" }, this.#bar, this.#say, this.#button),
      this.#verdict,
      key,
      this.#figures,
      make("ul", { className: "notes" }, ...NOTES.map(note => make("li", {}, note))),
      more,
    );
    this.#dialog.setAttribute("aria-labelledby", title.id);
    document.body.append(this.#dialog);
    document.addEventListener("visibilitychange", () => {
      this.#wasHidden ||= document.hidden;
    });
  }

  /** Shows the dialog and begins, once the last run has ended. */
  open() {
    if (!this.#dialog.open) this.#dialog.showModal();
    if (!this.#run || this.#isStopping) this.#last.then(() => this.#dialog.open && this.#start());
  }

  #start() {
    if (this.#run) return;
    const base = new URL("./", document.baseURI);
    const report = (kind, what) => this.#heard[kind](what);
    const run = new Run({ base, channel: freshChannel(), seconds: this.#seconds, report });
    this.#run = run;
    this.#wasHidden = document.hidden;
    this.#plot = new Plot(run.lanes, this.#seconds);
    this.#table = new Table(run.lanes);
    this.#figures.replaceChildren(this.#plot.element, this.#table.element);
    this.#verdict.textContent = READING;
    this.#button.textContent = "Stop";
    this.#last = this.#see(run);
  }

  async #see(run) {
    const timer = setInterval(() => this.#show(run), FIGURES_EVERY_MS);
    let [phase, text] = ["done", `Done: ${whole(run.total)} messages.`];
    try {
      await run.go();
    } catch (error) {
      const after = `after ${whole(run.sent)} of ${whole(run.total)} messages`;
      phase = this.#isStopping ? "stopped" : "failed";
      text = `Stopped ${run.begun === null ? "before the first message" : after}.`;
      if (!this.#isStopping) text = `It could not be done: ${error.message}`;
    }
    clearInterval(timer);
    this.#show(run);
    this.#run = null;
    this.#isStopping = false;
    this.#button.textContent = "Run again";
    this.#verdict.textContent = phase === "failed" ? READING : verdict(run, this.#wasHidden);
    this.#enter(phase, text);
  }

  #stop() {
    if (!this.#run || this.#isStopping) return;
    this.#isStopping = true;
    this.#button.textContent = "Stopping …"; // until all connections are closed
    this.#run.stop();
  }

  #heard = {
    phase: ({ name }) => this.#enter(name, PHASES[name]),
    sent: what => this.#plot.sent(what),
    arrived: what => this.#plot.arrived(what),
    request: what => this.#plot.request(what),
  };

  #enter(phase, text) {
    this.#dialog.dataset.phase = phase;
    this.#say.textContent = text;
    if (phase === "done") this.#bar.value = 1;
  }

  #show(run) {
    this.#table.show(run.begun !== null);
    for (const lane of run.lanes) this.#plot.caption(lane);
    if (this.#dialog.dataset.phase === "publishing")
      this.#say.textContent = `${whole(run.sent)} of ${whole(run.total)} messages`;
    const tookS = run.begun === null ? 0 : (performance.now() - run.begun) / 1000;
    this.#bar.value = Math.min(0.97, tookS / (this.#seconds + ROOM_S));
  }
}

function secondsAsked() {
  const asked = Number(new URLSearchParams(location.search).get("compare-seconds"));
  return asked > 0 ? Math.min(MOST_SECONDS, asked) : SECONDS;
}

/** In the namespace of the chat's channel: where this page may publish. */
function freshChannel() {
  const [namespace, rest] = (new URLSearchParams(location.hash.slice(1)).get("channel") ?? "").split(":");
  const id = [...crypto.getRandomValues(new Uint8Array(9))].map(byte => byte.toString(36)).join("");
  return `${rest === undefined ? "" : `${namespace}:`}compare-${id}`;
}

/** @type {LiveComparison | null} */
let comparison = null;
$("compare").onclick = () => {
  comparison ??= new LiveComparison();
  comparison.open();
};
