/*
 * Heartwire demo, 5 of 7: the panels of the weather and of the client.
 */

import { DEFAULTS, TRANSPORTS } from "../heartwire.js";
import { $, clock, duration, make, radio } from "./parts.js";
import { inWords, LABELS } from "./room.js";
import { STRIKES, WEATHER } from "./weather.js";

const MINUTE_MS = 60_000;
const SILENCE_LIMIT_S = DEFAULTS.pingIntervalS + DEFAULTS.pongTimeoutS; // a server's default is 25 s, too

/** The choice of a fault, with one sentence on its cause and one on what the client does. */
export class WeatherPanel {
  #weather;

  constructor(weather) {
    this.#weather = weather;
    const onchange = () =>
      weather.set($("weather").querySelector(":checked").value, { option: option.checked });
    const option = make("input", { type: "checkbox", checked: true, onchange });
    for (const [value, { label }] of Object.entries(WEATHER))
      $("weather").append(radio({ name: "weather", value, checked: value === "clear", onchange }, label));
    $("weather-option").append(option, WEATHER.offline.option);
    $("strikes").append(...Object.entries(STRIKES).map(([name, fault]) => this.#strikeRow(name, fault)));
    this.show("clear");
  }

  /** @param {string} name @param {import("./weather.js").Fault} fault */
  #strikeRow(name, fault) {
    const { label, option } = fault;
    const box = make("input", { type: "checkbox" });
    const onclick = () => this.#weather.strike(name, { option: box.checked });
    const button = make("button", { type: "button", className: "button", onclick, value: name }, label);
    return make("li", {}, button, option ? make("label", { className: "check" }, box, option) : "");
  }

  /** Shows a weather or a strike, whoever chose it. */
  show(name) {
    const { label, world, client, option } = WEATHER[name] ?? STRIKES[name];
    if (name in WEATHER) {
      $("weather").querySelector(`[value=${name}]`).checked = true;
      $("weather-option").hidden = !option;
    }
    $("weather-text").replaceChildren(
      make("p", {}, make("b", {}, `${label}. `), world),
      make("p", {}, make("b", {}, "The client "), client),
    );
  }
}

/** The bucket of the client, as far as its attempts are visible from outside. */
class Bucket {
  #tokens = DEFAULTS.attemptBurst;
  #at = Date.now();

  get tokens() {
    const filled = this.#tokens + ((Date.now() - this.#at) / 1000) * DEFAULTS.attemptRatePerS;
    return Math.min(DEFAULTS.attemptBurst, filled);
  }

  take() {
    this.#tokens = Math.max(0, this.tokens - 1);
    this.#at = Date.now();
  }
}

export class ClientPanel {
  heardAt = 0;
  #room;
  #bucket = new Bucket();
  #attempts = []; // when, in the last minute
  #failed = new Map(); // why, by transport
  #trying = "";
  #tried = ""; // the last that was, which is the one that failed if one did
  #pings = 0;
  #nextAt = 0;

  constructor(room) {
    this.#room = room;
    for (const name of TRANSPORTS) {
      const rung = make("li", {}, make("b", {}, LABELS[name]), make("span", {}));
      rung.dataset.transport = name;
      $("ladder").append(rung);
    }
  }

  /** A new client has no memory of the attempts of the last. */
  reset() {
    this.#bucket = new Bucket();
    this.#failed.clear();
    this.#nextAt = 0;
    this.#why("");
  }

  /** The rung of the ladder that is tried; "" if none is. */
  trying(transport) {
    this.#trying = transport;
    this.#tried = transport || this.#tried;
  }

  /**
   * From the weather, which sees all attempts, also those for a better transport. A long poll
   * begins as a poll, and looks the same.
   */
  attempt(kind) {
    if (this.#room.state === "online") this.trying(kind === "poll" ? "longpoll" : kind);
    this.#attempts.push(Date.now());
    this.#bucket.take();
    this.#nextAt = 0;
  }

  heard(isPing) {
    this.heardAt = Date.now();
    if (isPing) this.#pings++;
  }

  opened({ transport }) {
    this.#trying = "";
    this.#failed.delete(transport);
  }

  closed({ wasOpen, reason, nextAttemptS }) {
    if (!wasOpen) this.#failed.set(this.#tried, reason);
    this.#trying = "";
    this.#nextAt = nextAttemptS > 0 ? Date.now() + nextAttemptS * 1000 : 0;
  }

  noted(note) {
    if (note.kind === "notYet") {
      this.#failed.set(note.transport, note.reason);
      this.#trying = "";
    }
    this.#why(inWords(note));
  }

  #why(text) {
    $("why").textContent = text && `${clock(Date.now())} ${text}`;
    $("why").hidden = !text;
  }

  /** Seconds until the next attempt; 0 where none is planned. */
  get nextS() {
    return Math.max(0, (this.#nextAt - Date.now()) / 1000);
  }

  /** Shows all figures, those that change with time alone too. */
  show() {
    this.#showLadder();
    this.#showAttempts();
    const { state, position, onlineAt, counts } = this.#room;
    const [now, isOnline] = [Date.now(), state === "online"];
    const silenceS = this.heardAt && isOnline ? (now - this.heardAt) / 1000 : 0;
    $("silence").style.setProperty("--part", Math.min(1, silenceS / SILENCE_LIMIT_S));
    const heard = `${duration(now - this.heardAt)} ago · ${this.#pings} pings`;
    $("heard").textContent = this.heardAt ? heard : "–";
    $("position").textContent = position || "–";
    $("uptime").textContent = isOnline ? duration(Math.floor((now - onlineAt) / 1000) * 1000) : "–";
    $("caught-up").textContent = `${counts.caughtUp} · after ${counts.connects} connects`;
    this.#showTally();
  }

  #showLadder() {
    const { client, state, transport } = this.#room;
    for (const rung of $("ladder").children) {
      const name = rung.dataset.transport;
      const isUsed = state === "online" && client.transport === name;
      const isTried = this.#trying === name && !isUsed;
      let status = isAbove(client.transport, name) ? "to be tried again" : "in reserve";
      if (transport !== "auto" && transport !== name) status = "not chosen";
      else if (isUsed || isTried) status = isUsed ? "in use" : "trying …";
      else status = this.#failed.get(name) ?? status;
      rung.className = isUsed ? "used" : isTried ? "tried" : this.#failed.has(name) ? "failed" : "";
      rung.setAttribute("aria-current", isUsed ? "true" : "false");
      if (rung.lastChild.textContent !== status) rung.lastChild.textContent = status;
    }
  }

  #showAttempts() {
    while (this.#attempts.length && this.#attempts[0] < Date.now() - MINUTE_MS) this.#attempts.shift();
    $("attempts").textContent = this.#attempts.length;
    $("next").textContent = this.nextS ? `in ${this.nextS.toFixed(1)} s` : "–";
    const { attemptBurst: size, attemptRatePerS: ratePerS } = DEFAULTS;
    $("bucket").textContent = `${Math.floor(this.#bucket.tokens)} of ${size}, +1 every ${1 / ratePerS} s`;
  }

  #showTally() {
    const { tally, client, counts } = this.#room;
    const { sent, acknowledged, received, doubled, lost, swapped } = tally;
    const bad = { doubled, lost, swapped, gaps: counts.gaps };
    const figures = { sent, acknowledged, pending: client.pending, received, ...bad };
    for (const [name, value] of Object.entries(figures)) {
      $(`n-${name}`).textContent = value;
      $(`n-${name}`).classList.toggle("bad", name in bad && value > 0);
    }
    $("verdict").textContent = this.#verdict(Object.values(bad).some(Boolean));
  }

  #verdict(isBad) {
    const { tally, isOutboxFull, isTallying } = this.#room;
    const waiting = tally.sent - tally.acknowledged - tally.givenUp;
    if (!tally.sent) return "Switch it on, then make the weather bad.";
    if (isBad) return "Something is wrong: please report what you did.";
    if (isOutboxFull && isTallying)
      return "The outbox is full (it is bounded): publishing goes on when the server answers.";
    if (tally.givenUp)
      return `${tally.givenUp} got no answer within ${DEFAULTS.maxPendingAgeS} s, and were given up.`;
    if (waiting > 20)
      return `${waiting} wait in the outbox for an answer; each has a key, so that it counts once.`;
    return "Each came once and in order.";
  }
}

const isAbove = (used, name) => used !== "" && TRANSPORTS.indexOf(name) < TRANSPORTS.indexOf(used);
