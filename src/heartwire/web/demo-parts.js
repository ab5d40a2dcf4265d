/*
 * Heartwire demo, 3 of 4: parts of the page that know nothing of the link.
 *
 * `Strip` is the live trace of the connection, as on a heart monitor; `drawSparkline` the round-trip times; both take
 * their colours from the style sheet, so light and dark follow it. `showTerminal` gives lines to copy into a terminal.
 */

const WINDOW_MS = 40_000;
const FRAME_MS = 33;
const CALM_FRAME_MS = 1000; // for those who asked for less motion
// One heartbeat: points of (dx, dy) in units of the strip's half height, the shape every monitor shows.
const PULSE = [[-11, 0], [-8, -0.14], [-5.5, 0], [-3, 0.12], [0, -1], [3, 0.5], [5.5, 0], [9, -0.22], [12.5, 0]];

/** An element with properties and children; strings become text nodes. */
export function make(tag, { className = "", ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** @returns {string} a time of day, to the second. */
export const clock = (at) => new Date(at).toLocaleTimeString([], {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

/** @returns {string} such as `4.2 ms`, `1.3 s`, `2 min 5 s`. */
export function duration(ms) {
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** The same name gets the same hue on every screen. */
export function hue(name) {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}

/** Size a canvas for the screen's pixels. @returns {CanvasRenderingContext2D} */
function fit(canvas) {
  const ratio = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

function colours(canvas, ...names) {
  const style = getComputedStyle(canvas);
  return names.map((name) => style.getPropertyValue(`--${name}`).trim());
}

/** A scrolling trace: flat and dashed while there is no link, a pulse for each heartbeat, a dot for each message. */
export class Strip {
  #canvas;
  #marks = []; // {at, kind: "beat" | "in" | "out"}
  #spans = [{ at: 0, live: false }]; // from when on the link was up or down
  #drawnAt = 0;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
    const calm = matchMedia("(prefers-reduced-motion: reduce)");
    const frame = (at) => {
      if (at - this.#drawnAt >= (calm.matches ? CALM_FRAME_MS : FRAME_MS)) {
        this.#drawnAt = at;
        this.#draw(performance.now());
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  /** @param {"beat"|"in"|"out"} kind */
  mark(kind) {
    this.#marks.push({ at: performance.now(), kind });
    if (this.#marks.length > 2000) this.#marks.splice(0, 1000);
  }

  /** @param {boolean} live */
  setLive(live) {
    if (this.#spans.at(-1).live !== live) this.#spans.push({ at: performance.now(), live });
  }

  #draw(now) {
    const canvas = this.#canvas;
    if (!canvas.clientWidth) return;
    const pen = fit(canvas);
    const [accent, muted, incoming] = colours(canvas, "accent", "faint", "blue");
    const width = canvas.clientWidth - 10; // room for the dot that is now
    const middle = canvas.clientHeight * 0.6;
    const reach = canvas.clientHeight * 0.46;
    const x = (at) => width - ((now - at) / WINDOW_MS) * width;
    const start = now - WINDOW_MS;
    while (this.#spans.length > 1 && this.#spans[1].at < start) this.#spans.shift();
    while (this.#marks.length && this.#marks[0].at < start - 1000) this.#marks.shift();

    pen.lineWidth = 1.75;
    pen.lineJoin = "round";
    this.#spans.forEach(({ at, live }, index) => {
      const until = this.#spans[index + 1]?.at ?? now;
      pen.strokeStyle = live ? accent : muted;
      pen.setLineDash(live ? [] : [2, 5]);
      pen.beginPath();
      pen.moveTo(Math.max(0, x(at)), middle);
      if (live) this.#tracePulses(pen, at, until, x, middle, reach);
      pen.lineTo(x(until), middle);
      pen.stroke();
    });
    pen.setLineDash([]);

    for (const { at, kind } of this.#marks) {
      if (kind === "beat") continue;
      pen.fillStyle = pen.strokeStyle = incoming;
      pen.beginPath();
      pen.arc(x(at), middle + (kind === "in" ? 9 : -9), 2.4, 0, 7);
      if (kind === "in") pen.fill();
      else pen.stroke();
    }
    pen.fillStyle = this.#spans.at(-1).live ? accent : muted;
    pen.beginPath();
    pen.arc(width, middle, 3.5, 0, 7);
    pen.fill();
  }

  #tracePulses(pen, from, until, x, middle, reach) {
    let last = -Infinity;
    for (const { at, kind } of this.#marks) {
      if (kind !== "beat" || at < from || at > until || x(at) - last < 24) continue;
      last = x(at);
      // A pulse stays within its span: the newest one grows out of the leading edge, the first one out of the start.
      for (const [dx, dy] of PULSE) if (last + dx >= x(from) && last + dx <= x(until)) pen.lineTo(last + dx, middle + dy * reach);
    }
  }
}

/**
 * Two series over one another: heartbeats as a line, own messages as dots.
 * @param {HTMLCanvasElement} canvas
 * @param {{beats: number[], messages: number[]}} series  Milliseconds, oldest first.
 */
export function drawSparkline(canvas, { beats, messages }) {
  if (!canvas.clientWidth) return;
  const pen = fit(canvas);
  const [accent, blue, line] = colours(canvas, "accent", "blue", "line");
  const { clientWidth: width, clientHeight: height } = canvas;
  const top = Math.max(1, ...beats, ...messages);
  // Square root: a poll's two seconds and a socket's two milliseconds are both to be seen.
  const y = (value) => height - 5 - Math.sqrt(value / top) * (height - 10);
  const x = (index, count) => width - 5 - (count - 1 - index) * Math.max(5, (width - 10) / 40);
  pen.strokeStyle = line;
  pen.beginPath();
  pen.moveTo(0, height - 0.5);
  pen.lineTo(width, height - 0.5);
  pen.stroke();
  pen.strokeStyle = pen.fillStyle = accent;
  pen.lineWidth = 1.5;
  pen.lineJoin = "round";
  pen.beginPath();
  beats.forEach((value, index) => pen.lineTo(x(index, beats.length), y(value)));
  pen.stroke();
  for (const [values, colour] of [[beats.slice(-1), accent], [messages, blue]]) {
    pen.fillStyle = colour;
    values.forEach((value, index) => {
      pen.beginPath();
      pen.arc(x(index, values.length), y(value), 2.6, 0, 7);
      pen.fill();
    });
  }
}

/** Text safe inside double quotes in each of the languages below, in a shell's single quotes too. */
const quotable = (url) => String(url).replace(/'/g, "%27");

/** @returns {Record<string, [string, string][]>} by language: what it is, and the lines. */
function terminalLines({ url, base, channel }) {
  const at = quotable(url);
  const socket = at.replace(/^http/, "ws");
  const server = quotable(base).replace(/\/$/, "");
  const name = `'${channel.replace(/'/g, "'\\''")}'`;
  return {
    curl: [
      ["Publish", `curl -d 'hello from curl' '${at}'`],
      ["Poll", `curl '${at}?since=earliest'`],
      ["Long poll", `curl '${at}?wait=25'`],
      ["Stream", `curl -N -H 'Accept: text/event-stream' '${at}?since=earliest'`],
    ],
    Python: [
      ["Publish", `from urllib.request import urlopen\nurlopen("${at}", data="hello from Python".encode())`],
      ["Follow, losing nothing", [
        "import json",
        "from urllib.request import urlopen",
        "",
        'since = "earliest"',
        "while True:",
        `    answer = json.load(urlopen(f"${at}?since={since}&wait=25"))`,
        '    for publication in answer["publications"]:',
        '        print(publication["position"], publication["data"])',
        '    since = answer["position"]',
      ].join("\n")],
    ],
    JavaScript: [
      ["WebSocket", [
        `const socket = new WebSocket("${socket}");`,
        "socket.onmessage = ({ data }) => console.log(data);",
        'socket.onopen = () => socket.send("hello from JavaScript");',
      ].join("\n")],
      ["SSE", `new EventSource("${at}?since=earliest")\n  .onmessage = ({ data, lastEventId }) => console.log(lastEventId, data);`],
    ],
    heartwire: [
      ["Publish", `heartwire pub ${server} ${name} 'hello from heartwire'`],
      ["Follow", `heartwire sub ${server} ${name} --since earliest`],
    ],
  };
}

async function copy(text, button, code) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch { // no clipboard without https or permission: select it, so that a key press copies
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

/**
 * Fill the panel "Try it from a terminal".
 * @param {HTMLElement} choices  Gets one radio button for each language.
 * @param {HTMLElement} lines    Gets the lines.
 * @param {{url: URL, base: URL, channel: string}} place
 */
export function showTerminal(choices, lines, place) {
  const byLanguage = terminalLines(place);
  const chosen = choices.querySelector(":checked")?.value ?? "curl";
  const show = (language) => lines.replaceChildren(...byLanguage[language].map(([title, text]) => {
    const button = make("button", { type: "button", className: "plain", ariaLabel: `Copy: ${title}, ${language}` }, "Copy");
    const code = make("code", {}, text);
    button.onclick = () => copy(text, button, code);
    return make("figure", {}, make("figcaption", {}, title, button), make("pre", { tabIndex: 0 }, code));
  }));
  choices.replaceChildren(...Object.keys(byLanguage).map((language) => {
    const onchange = () => show(language);
    const checked = language === chosen;
    const input = make("input", { type: "radio", name: "language", value: language, checked, onchange });
    return make("label", {}, input, make("span", {}, language));
  }));
  show(chosen);
}
