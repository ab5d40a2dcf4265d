/*
 * Heartwire demo, 4 of 4: the page.
 *
 * Shows what the link does and passes on what the person wants. Whatever comes out of a channel was written by somebody
 * else and is shown as text only.
 */

import { Link } from "./demo-link.js";
import { WIRES } from "./demo-wires.js";
import { Strip, clock, drawSparkline, duration, hue, make, showTerminal } from "./demo-parts.js";

const MESSAGE_LIMIT = 400; // shown; older ones leave the page
const LOG_LIMIT = 200;
const SAMPLE_LIMIT = 40;
const GROUP_MS = 3 * 60_000; // the same author within this time: no new header
const PRESENCE_EVERY_MS = 5000;

const $ = (id) => document.getElementById(id);
const base = new URL("./", document.baseURI);
const client = `demo-${Math.random().toString(36).slice(2, 12)}`;
const samples = { beats: [], messages: [] };
const names = new Map(); // client id → the nickname last used from it
let mine = client; // our client id as presence shows it
let divider = null; // the line of the catch-up under way
let lastMessage = null;
let unread = 0;
let atEnd = true; // the reader is at the newest message
let scrolling = 0;

/* ---- messages ---- */

/** What a publication is to a reader, whoever made it. */
function readable({ data, encoding, publisher }) {
  if (encoding === "base64") {
    const bytes = Math.floor((data.replace(/=+$/, "").length * 3) / 4);
    const text = data.length > 800 ? `${data.slice(0, 800)} …` : data;
    return { from: "bytes", kind: "raw", note: `${bytes} B, base64`, text };
  }
  if (data && typeof data === "object" && typeof data.text === "string") {
    const from = typeof data.from === "string" && data.from.trim() ? data.from.slice(0, 40) : "somebody";
    return { from, kind: "chat", note: "", text: data.text, at: Number.isFinite(data.at) ? data.at : undefined };
  }
  const from = publisher?.user || "somebody";
  if (typeof data === "string") return { from, kind: "chat", note: "plain text", text: data };
  return { from, kind: "raw", note: "JSON", text: JSON.stringify(data, null, 2) };
}

function showMessage(publication) {
  const { from, kind, note, text, at = Date.now() } = readable(publication);
  if (publication.publisher?.client) {
    if (names.size > 1000) names.clear();
    names.set(publication.publisher.client, from);
    if (publication.mine) mine = publication.publisher.client;
  }
  const own = publication.mine || (kind === "chat" && from === $("nick").value);
  const follows = lastMessage?.from === from && lastMessage.own === own && Math.abs(at - lastMessage.at) < GROUP_MS;
  const item = make("li", { className: `message${own ? " own" : ""}${follows ? " follows" : ""}` });
  item.style.setProperty("--hue", hue(from));
  item.append(
    make("span", { className: "avatar", ariaHidden: "true" }, [...from][0].toUpperCase()),
    make("p", { className: "author" }, from, make("time", { dateTime: new Date(at).toISOString() }, clock(at))),
    make(kind === "raw" ? "pre" : "p", { className: "body" }, text),
    make("p", { className: "trace" }, note ? make("span", {}, note) : "", make("span", {}, WIRES[publication.transport].label),
      make("code", { title: "position" }, publication.position)),
  );
  lastMessage = { from, own, at };
  append(item, own);
}

/** Add to the list, keep it bounded, and stay at the end if the reader is there. */
function append(item, own = false) {
  const list = $("list");
  list.append(item);
  while (list.childElementCount > MESSAGE_LIMIT) list.firstElementChild.remove();
  $("empty").hidden = true;
  if (own) atEnd = true;
  if (atEnd) scrollSoon();
  else $("jump").hidden = false;
  if (document.hidden && item.classList.contains("message")) document.title = `(${++unread}) ${link.channel} · Heartwire`;
}

/** Once per frame: a replay of thousands of messages is laid out once, not once for each. */
function scrollSoon() {
  scrolling ||= requestAnimationFrame(() => {
    scrolling = 0;
    $("messages").scrollTop = $("messages").scrollHeight;
  });
}

function showDivider(text, kind = "") {
  const item = make("li", { className: `divider ${kind}` }, make("span", {}, text));
  lastMessage = null;
  append(item);
  return item.firstElementChild;
}

function showOutbox() {
  const items = [...link.outbox.values()].filter(({ channel }) => channel === link.channel);
  $("pending").replaceChildren(...items.map(({ id, text, kept, sentOn, refused }) => {
    const status = refused ? `refused: ${refused}`
      : kept ? "kept by the server"
      : sentOn ? "sent"
      : link.state === "online" ? "sending"
      : "waiting for the link";
    const trace = make("p", { className: "trace" }, make("span", {}, status));
    if (refused) trace.append(make("button", { type: "button", className: "plain", onclick: () => link.discard(id) }, "Remove"));
    return make("li", { className: `message own unconfirmed${refused ? " refused" : ""}` }, make("p", { className: "body" }, text), trace);
  }));
  if (items.length) {
    $("empty").hidden = true;
    scrollSoon();
  }
}

/* ---- the link's news ---- */

const MARKS = { up: "●", down: "○", retry: "↻", gap: "▲", error: "✕", note: "·" };

function showLog({ kind, text }) {
  const list = $("log");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const sign = make("span", { className: "sign", ariaHidden: "true" }, MARKS[kind]);
  list.append(make("li", { className: kind }, make("time", {}, clock(Date.now())), sign, make("span", {}, text)));
  while (list.childElementCount > LOG_LIMIT) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function showState() {
  const { state, isCut } = link;
  document.body.dataset.state = state;
  $("state-text").textContent = state;
  $("cut").textContent = isCut ? "Restore" : "Cut the link";
  $("cut").setAttribute("aria-pressed", String(isCut));
  strip.setLive(state === "online");
  if (state === "connecting") $("messages").ariaBusy = "true"; // what is caught up is not read out one by one
  if (state === "online" && divider) divider.textContent = "back, catching up …";
  showBanner();
  showOutbox();
  if (state === "online") setTimeout(showPresence, 500);
}

function showBanner() {
  const { state, isCut, why, retryAt } = link;
  const left_s = Math.max(0, (retryAt - Date.now()) / 1000).toFixed(1);
  const [text, action] =
    isCut ? ["You cut the link. What you write waits here; what others write waits on the server.", "Restore"]
    : state === "waiting" ? [`The connection is gone. Next attempt in ${left_s} s.`, "Try now"]
    : state === "offline" ? [`The browser says there is no network. Next attempt in ${left_s} s.`, "Try now"]
    : state === "closed" && why ? [`The server closed for good: ${why}`, "Connect again"]
    : ["", ""];
  $("banner").hidden = !text;
  if ($("banner-text").textContent !== text) $("banner-text").textContent = text;
  $("banner-action").textContent = action;
}

function sample(series, rtt_ms) {
  series.push(rtt_ms);
  if (series.length > SAMPLE_LIMIT) series.shift();
  showRoundTrips();
}

function showRoundTrips() {
  for (const [id, values] of [["rtt-beat", samples.beats], ["rtt-message", samples.messages]]) {
    const median = [...values].sort((a, b) => a - b)[values.length >> 1];
    $(id).textContent = values.length ? `${duration(values.at(-1))} · median ${duration(median)}` : "–";
  }
  $("spark").ariaLabel = `Round-trip times. Heartbeat ${$("rtt-beat").textContent}, message ${$("rtt-message").textContent}`;
  drawSparkline($("spark"), samples);
}

function showFacts() {
  const { state, position, onlineAt, heardAt, counts } = link;
  const online = state === "online";
  $("position").textContent = position ?? "–";
  const uptime_s = Math.floor((Date.now() - onlineAt) / 1000);
  $("uptime").textContent = online ? (uptime_s < 60 ? `${uptime_s} s` : duration(uptime_s * 1000)) : "–";
  $("heard").textContent = heardAt ? `${duration(Date.now() - heardAt)} ago` : "–";
  for (const [name, value] of Object.entries(counts)) $(`n-${name}`).textContent = value;
  $("n-duplicates").classList.toggle("bad", counts.duplicates > 0);
  $("n-gaps").classList.toggle("warn", counts.gaps > 0);
}

const NEWS = {
  state: showState,
  log: showLog,
  outbox: showOutbox,
  publication(publication) {
    strip.mark(publication.mine ? "out" : "in");
    showMessage(publication);
  },
  beat({ rtt_ms }) {
    strip.mark("beat");
    if (rtt_ms !== null) sample(samples.beats, rtt_ms);
  },
  roundtrip: ({ rtt_ms }) => sample(samples.messages, rtt_ms),
  gap: () => showDivider("here the server could not continue: what it still keeps follows", "gap"),
  caughtup({ count, first, away_ms }) {
    const many = `${count} message${count === 1 ? "" : "s"}`;
    if (first && count) showDivider(`${many} kept from before you came`);
    if (!first) {
      const text = `back after ${duration(away_ms)}: ${many} caught up`;
      if (count || away_ms > 1000) showLog({ kind: "note", text });
      if (divider) divider.textContent = text;
      else if (count) showDivider(text, "back");
    }
    divider = null;
    $("messages").ariaBusy = "false";
  },
};

const link = new Link({
  base, client,
  emit(kind, detail) {
    NEWS[kind](detail);
    showFacts();
  },
});
const strip = new Strip($("strip"));

/* ---- who is online ---- */

async function showPresence() {
  if (document.hidden || link.state !== "online") return;
  const channel = link.channel;
  let people = [];
  let problem = "";
  try {
    const response = await fetch(link.url({}, "/presence"), { cache: "no-store" });
    if (response.ok) people = (await response.json()).presence;
    else problem = `This channel does not tell (${response.status}).`;
  } catch {
    problem = "Not known just now.";
  }
  if (channel !== link.channel) return;
  $("people-count").textContent = problem ? "" : people.length;
  const rows = people.slice(0, 50).map((person) => {
    const you = person.client === client ? "you, polling" : person.client === mine ? "you" : "";
    const name = (you && $("nick").value) || names.get(person.client) || person.user || person.client;
    const row = make("li", {}, make("span", { className: "avatar", ariaHidden: "true" }, [...name][0].toUpperCase()),
      make("span", { className: "name" }, name), make("span", { className: "muted" }, you));
    row.style.setProperty("--hue", hue(name));
    return row;
  });
  if (people.length > 50) rows.push(make("li", { className: "muted" }, `and ${people.length - 50} more`));
  if (problem) rows.push(make("li", { className: "muted" }, problem));
  $("people").replaceChildren(...rows);
}

/* ---- controls ---- */

/** Kept beside the channel in the address, so that a link leads here; the nickname stays on this device. */
function remember() {
  const place = new URLSearchParams({ channel: link.channel, transport: link.transport });
  history.replaceState(null, "", `#${place}`);
  try {
    localStorage.setItem("heartwire-nick", $("nick").value);
  } catch { /* storage may be forbidden; then a nickname lasts as long as the page */ }
}

function recall() {
  const place = new URLSearchParams(location.hash.slice(1));
  const transport = place.get("transport");
  return { channel: place.get("channel") || "lobby", transport: transport in WIRES ? transport : link.transport };
}

function follow(channel, transport) {
  divider = lastMessage = null;
  $("list").replaceChildren();
  $("empty").hidden = false;
  $("jump").hidden = true;
  $("channel").value = channel;
  $("transports").querySelector(`[value=${transport}]`).checked = true;
  document.title = `${channel} · Heartwire`;
  link.follow(channel, transport);
  remember();
  showTerminal($("languages"), $("snippets"), { url: link.url(), base, channel });
}

/** Publications by another client, which the cut does not concern. */
async function letOthersTalk() {
  const url = link.url();
  const said = ["Hello?", "Is anybody there?", "Three.", "Four.", "That was five."];
  for (const text of said) {
    const id = `${Date.now()}-${Math.random().toString(36).slice(2)}`;
    const body = JSON.stringify({ from: "somebody else", text, id, at: Date.now() });
    const headers = { "Content-Type": "application/json", "Idempotency-Key": id };
    try {
      const response = await fetch(url, { method: "POST", body, headers });
      if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    } catch (error) {
      return showLog({ kind: "error", text: `Somebody else could not publish: ${error.message}` });
    }
  }
  if (link.isCut) showLog({ kind: "note", text: "Somebody else said five things while you are away" });
}

function send() {
  const box = $("composer-text");
  const text = box.value.trim();
  if (!text) return;
  if (!link.publish($("nick").value.trim() || "somebody", text)) {
    return showLog({ kind: "error", text: "The outbox is full: restore the link first" });
  }
  box.value = "";
}

for (const [value, { label }] of Object.entries(WIRES)) {
  const choose = () => {
    link.switchTo(value);
    remember();
  };
  const input = make("input", { type: "radio", name: "transport", value, onchange: choose });
  $("transports").append(make("label", {}, input, make("span", {}, label)));
}

$("where").onsubmit = (event) => {
  event.preventDefault();
  const field = $("channel");
  const name = field.value.trim();
  const bytes = new TextEncoder().encode(name).length;
  field.setCustomValidity(bytes > 255 || /[\p{Cc},]/u.test(name) ? "At most 255 bytes, without commas and control characters" : "");
  if (!event.target.reportValidity()) return;
  if (name !== link.channel) follow(name, link.transport);
  remember();
};
$("channel").oninput = () => $("channel").setCustomValidity("");
$("channel").onchange = () => $("where").requestSubmit();
$("nick").onchange = remember;
$("composer").onsubmit = (event) => {
  event.preventDefault();
  send();
};
$("composer-text").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
};
$("cut").onclick = () => {
  if (link.isCut) return link.restore();
  link.cut();
  divider = showDivider("you cut the link", "back");
};
$("banner-action").onclick = () => link.restore();
$("others").onclick = letOthersTalk;
$("jump").onclick = () => { $("messages").scrollTop = $("messages").scrollHeight; };
$("messages").onscroll = ({ target }) => {
  atEnd = target.scrollHeight - target.scrollTop - target.clientHeight < 80;
  if (atEnd) $("jump").hidden = true;
};
new ResizeObserver(() => atEnd && scrollSoon()).observe($("messages")); // a phone's keyboard, a turned screen
const views = document.querySelectorAll(".views button");
for (const button of views) {
  button.onclick = () => {
    document.body.dataset.view = button.dataset.view;
    for (const other of views) other.setAttribute("aria-pressed", String(other === button));
    showRoundTrips();
  };
}
addEventListener("hashchange", () => {
  const { channel, transport } = recall();
  if (channel !== link.channel) follow(channel, transport);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unread = 0;
  document.title = `${link.channel} · Heartwire`;
  showPresence();
});
addEventListener("resize", showRoundTrips);

const NICKS = ["amber fox", "quiet heron", "early lark", "blue finch", "brisk otter", "tall crane", "swift hare"];
try {
  $("nick").value = localStorage.getItem("heartwire-nick") || "";
} catch { /* as in remember */ }
$("nick").value ||= NICKS[Math.floor(Math.random() * NICKS.length)];
setInterval(showFacts, 1000);
setInterval(() => link.retryAt > Date.now() && showBanner(), 200);
setInterval(showPresence, PRESENCE_EVERY_MS);
const { channel, transport } = recall();
follow(channel, transport);
