/*
 * Heartwire demo, 7 of 7: the page.
 *
 * Shows what the room and its client do, and passes on the wishes of the person.
 */

import { MessageList } from "./messages.js";
import { ClientPanel, WeatherPanel } from "./panel.js";
import { $, avatar, clock, drawSparkline, duration, hue, make, radio, showTerminal } from "./parts.js";
import { inWords, LABELS, Room } from "./room.js";
import { Timeline } from "./timeline.js";
import { STRIKES, WEATHER, Weather } from "./weather.js";

const LOG_LIMIT = 200;
const SAMPLE_LIMIT = 40;
const PRESENCE_EVERY_MS = 5000;
const FIGURES_EVERY_MS = 250;
const CHOICES = { auto: "Auto", ...LABELS };

const base = new URL("./", document.baseURI);
/** @type {{answered: number[], seen: number[]}} In milliseconds. */
const samples = { answered: [], seen: [] };
let divider = /** @type {any} */ (null); // the line of the catch-up under way

/* ---- events of the client ---- */

const MARKS = { up: "●", down: "○", retry: "↻", gap: "▲", error: "✕", note: "·", weather: "☁" };

function log(kind, text) {
  const list = $("log");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const time = make("time", {}, clock(Date.now()));
  const sign = make("span", { className: "sign", ariaHidden: "true" }, MARKS[kind]);
  list.append(make("li", { className: kind }, time, sign, make("span", {}, text)));
  while (list.childElementCount > LOG_LIMIT) list.firstElementChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function showState({ state, transport, reason }) {
  document.body.dataset.state = state;
  $("state-text").textContent = state;
  $("state-transport").textContent = state === "online" ? `, ${LABELS[room.client.transport]}` : "";
  panel.trying(state === "connecting" ? transport : "");
  timeline.setState(state, state === "online" ? LABELS[room.client.transport] : state);
  if (state === "connecting") $("messages").ariaBusy = "true"; // screen readers skip the catch-up
  if (state === "closed" && reason) log("error", `Closed for good: ${reason}`);
  if (state === "online") setTimeout(showPresence, 500);
  showBanner();
  messages.showOutbox();
}

function showBanner() {
  const { state } = room;
  const isCut = weather.name === "offline";
  const next = panel.nextS ? ` Next attempt in ${panel.nextS.toFixed(1)} s.` : "";
  const [text, action] = isCut
    ? [`There is no network. Your messages wait here, those of others wait on the server.${next}`, "Restore"]
    : state === "waiting" || state === "offline"
      ? [`The connection is gone.${next}`, ""]
      : state === "closed"
        ? ["The server has closed the connection for good.", "Connect again"]
        : ["", ""];
  $("banner").hidden = !text;
  if ($("banner-text").textContent !== text) $("banner-text").textContent = text;
  $("banner-action").textContent = action;
  $("banner-action").hidden = !action;
}

function showClose({ code, reason, wasOpen, nextAttemptS }) {
  const next = nextAttemptS > 0 ? `; next attempt in ${nextAttemptS.toFixed(1)} s` : "";
  if (nextAttemptS >= 0)
    log(wasOpen ? "down" : "retry", `${wasOpen ? "Lost" : "Failed"}: ${code} ${reason}${next}`);
  if (wasOpen && weather.name !== "offline")
    divider ??= messages.showDivider("the connection is gone", "back");
}

function sample(series, tookMs) {
  series.push(tookMs);
  if (series.length > SAMPLE_LIMIT) series.shift();
  showTimes();
}

function showTimes() {
  for (const [name, values] of Object.entries(samples)) {
    const median = [...values].sort((a, b) => a - b)[values.length >> 1];
    const text = values.length ? `${duration(values.at(-1))} · median ${duration(median)}` : "–";
    $(`rtt-${name}`).textContent = text;
  }
  $("spark").ariaLabel =
    `Until acknowledged ${$("rtt-answered").textContent}; until back ${$("rtt-seen").textContent}`;
  drawSparkline($("spark"), samples);
}

const ROOM_NEWS = {
  state: showState,
  outbox: () => messages.showOutbox(),
  open({ transport }) {
    panel.opened({ transport });
    log("up", `Online by ${LABELS[transport]}, from ${room.position || "the oldest kept"}`);
    if (divider) divider.textContent = "back, catching up …";
  },
  close(how) {
    panel.closed(how);
    showClose(how);
  },
  note(note) {
    panel.noted(note);
    log("note", inWords(note));
  },
  error: ({ error }) => log("error", error.message),
  publication(publication) {
    timeline.mark("in");
    messages.show(publication);
  },
  tally({ isIncoming = false }) {
    if (isIncoming) timeline.mark("in");
  },
  answered: ({ tookMs }) => sample(samples.answered, tookMs),
  seen: ({ tookMs }) => sample(samples.seen, tookMs),
  gap({ channel, before, after }) {
    log("gap", `Gap in ${channel}: from ${before} to ${after}`);
    messages.showDivider("here the server could not continue: what it still keeps follows", "gap");
  },
  caughtup({ count, first, awayMs }) {
    const many = `${count} message${count === 1 ? "" : "s"}`;
    if (first && count) messages.showDivider(`${many} kept from before you came`);
    const text = `back after ${duration(awayMs)}: ${count ? `${many} caught up` : "nothing was missed"}`;
    if (divider) divider.textContent = text;
    else if (!first && count) messages.showDivider(text, "back");
    divider = null;
    $("messages").ariaBusy = "false";
  },
};

const WEATHER_NEWS = {
  attempt({ transport }) {
    timeline.mark("attempt");
    panel.attempt(transport);
  },
  heard({ text }) {
    const isPing = /^(data: ?)?\{\}\s*$/m.test(text);
    panel.heard(isPing);
    if (isPing) timeline.mark("ping");
  },
  said({ text }) {
    for (const _ of text.matchAll(/publish\\?":/g)) timeline.mark("out");
    if (/\{\\?"id\\?":\d+,\\?"ping\\?":/.test(text)) log("note", "Asked the server whether it is there");
  },
  changed({ name }) {
    const { label } = WEATHER[name];
    const isCut = name === "offline";
    log("weather", `Weather: ${label}`);
    timeline.setWeather(name, label);
    weatherPanel.show(name);
    $("cut").textContent = isCut ? "Restore" : "Cut the link";
    $("cut").setAttribute("aria-pressed", String(isCut));
    if (isCut) divider ??= messages.showDivider("you cut the link", "back");
    showBanner();
  },
  struck({ name }) {
    log("weather", STRIKES[name].label);
    if (name === "asleep") timeline.setWeather("asleep", "asleep");
    else timeline.mark("strike", STRIKES[name].label);
    weatherPanel.show(name);
  },
  woke() {
    log("weather", "Awake");
    timeline.setWeather(weather.name, WEATHER[weather.name].label);
  },
};

const weather = new Weather((kind, what) => WEATHER_NEWS[kind](what));
const room = new Room({ base, weather, emit: (kind, what) => ROOM_NEWS[kind](what) });
const messages = new MessageList(room);
const timeline = new Timeline($("strip"));
const panel = new ClientPanel(room);
const weatherPanel = new WeatherPanel(weather);

/* ---- members ---- */

/** Presence lists connections. A client that polls has none between two polls (docs/centrifugal.md). */
async function showPresence() {
  const { client, channel } = room;
  if (document.hidden || weather.isAsleep || room.state !== "online") return;
  const isPolling = client.transport === "longpoll" || client.transport === "poll";
  let people = [];
  let problem = "";
  try {
    people = Object.values(await client.presence(channel));
  } catch (error) {
    problem = `Not known: ${error.message}`;
  }
  if (client !== room.client) return;
  $("people-count").textContent = problem ? "" : people.length;
  const rows = people.slice(0, 50).map(({ client: id, user }) => {
    const isYou = id === client.clientId;
    const name = (isYou && $("nick").value) || messages.names.get(id) || user || `${id.slice(0, 8)} …`;
    const you = make("span", { className: "muted" }, isYou ? "you" : "");
    const row = make("li", {}, avatar(name), make("span", { className: "name" }, name), you);
    row.style.setProperty("--hue", hue(name));
    return row;
  });
  if (people.length > 50) rows.push(make("li", { className: "muted" }, `and ${people.length - 50} more`));
  if (isPolling && !problem)
    problem = "You poll now, so you are not listed: presence is of connections that stay open.";
  if (problem) rows.push(make("li", { className: "muted" }, problem));
  $("people").replaceChildren(...rows);
}

/* ---- controls ---- */

/** Kept beside the channel in the address, so that a link leads here; the nickname stays on this device. */
function remember() {
  const place = new URLSearchParams({ channel: room.channel, transport: room.transport });
  history.replaceState(null, "", `#${place}`);
  try {
    localStorage.setItem("heartwire-nick", $("nick").value);
  } catch {
    /* storage may be forbidden; then a nickname lasts as long as the page */
  }
}

function recall() {
  const place = new URLSearchParams(location.hash.slice(1));
  const wanted = place.get("transport") ?? "";
  const transport = wanted in CHOICES ? wanted : room.transport;
  return { channel: place.get("channel") || "lobby", transport };
}

function follow(channel, transport) {
  if (channel !== room.channel || !room.client) {
    divider = null;
    messages.clear(channel);
    $("channel").value = channel;
  }
  $("transports").querySelector(`[value=${transport}]`).checked = true;
  panel.reset();
  try {
    room.follow(channel, transport);
  } catch (error) {
    // a name that no channel can have
    log("error", error.message);
  }
  remember();
  showTerminal($("languages"), $("snippets"), { url: room.url, base, channel });
}

/** Publications by another client, which the weather does not concern. */
async function letOthersTalk() {
  const { url } = room;
  const said = ["Hello?", "Is anybody there?", "Three.", "Four.", "That was five."];
  for (const text of said) {
    const id = `${Date.now()}-${Math.random().toString(36).slice(2)}`;
    const body = JSON.stringify({ from: "somebody else", text, id, at: Date.now() });
    const headers = { "Content-Type": "application/json", "Idempotency-Key": id };
    try {
      const response = await fetch(url, { method: "POST", body, headers });
      if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    } catch (error) {
      return log("error", `Somebody else could not publish: ${error.message}`);
    }
  }
  if (room.state !== "online") log("note", "Somebody else said five things while you are away");
}

function send() {
  const box = $("composer-text");
  const text = box.value.trim();
  if (!text || weather.isAsleep) return;
  if (!room.say($("nick").value.trim() || "somebody", text))
    return log("error", "Too much waits already: restore the network first");
  box.value = "";
}

for (const [value, label] of Object.entries(CHOICES)) {
  const onchange = () => follow(room.channel, value);
  $("transports").append(radio({ name: "transport", value, onchange }, label));
}

$("where").onsubmit = event => {
  event.preventDefault();
  const field = $("channel");
  const name = field.value.trim();
  const bytes = new TextEncoder().encode(name).length;
  const isBad = bytes > 255 || /[\p{Cc},]/u.test(name);
  field.setCustomValidity(isBad ? "At most 255 bytes, without commas and control characters" : "");
  if (!event.target.reportValidity()) return;
  if (name !== room.channel) follow(name, room.transport);
  remember();
};
$("channel").oninput = () => $("channel").setCustomValidity("");
$("channel").onchange = () => $("where").requestSubmit();
$("nick").onchange = remember;
$("composer").onsubmit = event => {
  event.preventDefault();
  send();
};
$("composer-text").onkeydown = event => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) $("composer").onsubmit(event);
};
$("cut").onclick = () => weather.set(weather.name === "offline" ? "clear" : "offline", { option: true });
$("banner-action").onclick = () => {
  if (weather.name === "offline") weather.set("clear");
  else follow(room.channel, room.transport);
};
$("tally").onchange = ({ target }) => {
  room.isTallying = target.checked;
};
$("others").onclick = letOthersTalk;
/** @type {NodeListOf<HTMLElement>} */
const views = document.querySelectorAll(".views button");
for (const button of views) {
  button.onclick = () => {
    document.body.dataset.view = button.dataset.view;
    for (const other of views) other.setAttribute("aria-pressed", String(other === button));
    showTimes();
  };
}
addEventListener("hashchange", () => {
  const { channel, transport } = recall();
  if (channel !== room.channel || transport !== room.transport) follow(channel, transport);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  messages.seen();
  showPresence();
});
addEventListener("resize", showTimes);

const NICKS = "amber fox,quiet heron,early lark,blue finch,brisk otter,tall crane,swift hare".split(",");
try {
  $("nick").value = localStorage.getItem("heartwire-nick") || "";
} catch {
  /* as in remember */
}
$("nick").value ||= NICKS[Math.floor(Math.random() * NICKS.length)];
setInterval(() => {
  panel.show();
  if (panel.nextS || !$("banner").hidden) showBanner();
}, FIGURES_EVERY_MS);
setInterval(showPresence, PRESENCE_EVERY_MS);
const { channel, transport } = recall();
follow(channel, transport);
timeline.setWeather("clear", "");
