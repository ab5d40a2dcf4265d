/*
 * Heartwire demo, 4 of 7: parts of the page that do not depend on the client.
 *
 * Elements, times, canvases that take their colours from the style sheet, so that light and dark follow it;
 * `drawSparkline` shows round trips, and `showTerminal` gives lines to copy into a terminal.
 */

/** An element of the page by its id. @type {(id: string) => any} */
export const $ = id => document.getElementById(id);

/**
 * An element with properties and children; strings become text nodes.
 * @param {string} tag
 * @param {Record<string, any>} given
 * @param {(string | Node)[]} children
 * @returns {any}
 */
export function make(tag, { className = "", ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** The first letter of a name, in its circle. */
export const avatar = name =>
  make("span", { className: "avatar", ariaHidden: "true" }, [...name][0].toUpperCase());

/** A radio button with its label, for `make`'s properties of the button. */
export const radio = (properties, label) =>
  make("label", {}, make("input", { type: "radio", ...properties }), make("span", {}, label));

/** @type {Intl.DateTimeFormatOptions} */
const TO_THE_SECOND = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };

/** @returns {string} a time of day. */
export const clock = at => new Date(at).toLocaleTimeString([], TO_THE_SECOND);

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
export function fit(canvas) {
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

/** Variables of the style sheet, by name. @returns {Record<string, string>} */
export function colours(element, ...names) {
  const style = getComputedStyle(element);
  return Object.fromEntries(names.map(name => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/**
 * Two series over one another: times until the answer as a line, until it was seen in the channel as dots.
 * @param {HTMLCanvasElement} canvas
 * @param {{answered: number[], seen: number[]}} series  Milliseconds, oldest first.
 */
export function drawSparkline(canvas, { answered, seen }) {
  if (!canvas.clientWidth) return;
  const pen = fit(canvas);
  const { accent, blue, line } = colours(canvas, "accent", "blue", "line");
  const { clientWidth: width, clientHeight: height } = canvas;
  const top = Math.max(1, ...answered, ...seen);
  // Square root: a wait of minutes and a socket's two milliseconds are both visible.
  const y = value => height - 5 - Math.sqrt(value / top) * (height - 10);
  const x = (index, count) => width - 5 - (count - 1 - index) * Math.max(5, (width - 10) / 40);
  pen.fillStyle = line;
  pen.fillRect(0, height - 1, width, 1);
  pen.strokeStyle = accent;
  pen.lineWidth = 1.5;
  pen.lineJoin = "round";
  pen.beginPath();
  for (const [index, value] of answered.entries()) pen.lineTo(x(index, answered.length), y(value));
  pen.stroke();
  const dots = (values, colour) => {
    pen.fillStyle = colour;
    for (const [index, value] of values.entries()) {
      pen.beginPath();
      pen.arc(x(index, values.length), y(value), 2.6, 0, 7);
      pen.fill();
    }
  };
  dots(answered.slice(-1), accent);
  dots(seen, blue);
}

/** Text safe inside double quotes in each of the languages below, in a shell's single quotes too. */
const quotable = url => String(url).replace(/'/g, "%27");

/** @returns {Record<string, [string, string][]>} by language: titles and lines. */
function terminalLines({ url, base, channel }) {
  const at = quotable(url);
  const socket = at.replace(/^http/, "ws");
  const server = quotable(base).replace(/\/$/, "");
  const quoted = JSON.stringify(channel);
  const python = [
    "from heartwire import connect_sync",
    "",
    `with connect_sync("${server}") as client:`,
    `    client.publish(${quoted}, "hello from Python")`,
    `    for publication in client.subscribe(${quoted}, since="earliest"):`,
    "        print(publication.position, publication.data)",
  ];
  const javaScript = [
    `const { connect } = await import("${server}/heartwire.js");`,
    `const client = connect("${server}");`,
    `client.subscribe(${quoted}, ({ data }) => console.log(data), { since: "earliest" });`,
    `await client.publish(${quoted}, "hello from JavaScript");`,
  ];
  const urlopen = `urlopen("${at}", data="hello from Python".encode())`;
  const name = `'${channel.replace(/'/g, "'\\''")}'`;
  return {
    curl: [
      ["Publish", `curl -d 'hello from curl' '${at}'`],
      ["Poll", `curl '${at}?since=earliest'`],
      ["Long poll", `curl '${at}?wait=25'`],
      ["Stream", `curl -N -H 'Accept: text/event-stream' '${at}?since=earliest'`],
    ],
    Python: [
      ["Publish and follow, through whatever breaks", python.join("\n")],
      ["Without a client", `from urllib.request import urlopen\n${urlopen}`],
    ],
    JavaScript: [
      ["Publish and follow, through whatever breaks", javaScript.join("\n")],
      ["Without a client", `new WebSocket("${socket}").onmessage = ({ data }) => console.log(data);`],
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
  } catch {
    // no clipboard without https or permission: select it, so that a key press copies
    getSelection()?.selectAllChildren(code);
    button.textContent = "Selected";
  }
  setTimeout(() => Object.assign(button, { textContent: "Copy" }), 1500);
}

/**
 * Fill the panel "Try it from a terminal".
 * @param {any} choices Gets one radio button for each language.
 * @param {any} lines Gets the lines.
 * @param {{url: URL, base: URL, channel: string}} place
 */
export function showTerminal(choices, lines, place) {
  const byLanguage = terminalLines(place);
  const chosen = choices.querySelector(":checked")?.value ?? "curl";
  const figure = (language, [title, text]) => {
    const ariaLabel = `Copy: ${title}, ${language}`;
    const button = make("button", { type: "button", className: "plain", ariaLabel }, "Copy");
    const code = make("code", {}, text);
    button.onclick = () => copy(text, button, code);
    return make("figure", {}, make("figcaption", {}, title, button), make("pre", { tabIndex: 0 }, code));
  };
  const show = name => lines.replaceChildren(...byLanguage[name].map(one => figure(name, one)));
  const choice = value =>
    radio({ name: "language", value, checked: value === chosen, onchange: () => show(value) }, value);
  choices.replaceChildren(...Object.keys(byLanguage).map(choice));
  show(chosen);
}
