/*
 * Heartwire demo, 6 of 7: the list of messages.
 *
 * The content of a channel was written by somebody else, and is shown as text only.
 */

import { $, avatar, clock, hue, make } from "./parts.js";
import { LABELS } from "./room.js";

const MESSAGE_LIMIT = 400; // shown; older ones leave the page
const GROUP_MS = 3 * 60_000; // the same author within this time: no new header

/** The fields of a message to show, from a publication of any client. */
function readable({ data, isBytes, user }) {
  if (isBytes) {
    const hex = [...data.slice(0, 256)].map(byte => byte.toString(16).padStart(2, "0")).join(" ");
    const text = data.length > 256 ? `${hex} …` : hex;
    return { from: user || "bytes", kind: "raw", note: `${data.length} B`, text };
  }
  if (typeof data?.text === "string") {
    const from = typeof data.from === "string" && data.from.trim() ? data.from.slice(0, 40) : "somebody";
    const at = Number.isFinite(data.at) ? data.at : undefined;
    return { from, kind: "chat", note: "", text: data.text, at };
  }
  if (typeof data === "string")
    return { from: user || "somebody", kind: "chat", note: "plain text", text: data };
  return { from: user || "somebody", kind: "raw", note: "JSON", text: JSON.stringify(data, null, 2) };
}

export class MessageList {
  /** By client id: the nickname last used from it. @type {Map<string, string>} */
  names = new Map();
  #room;
  #last = /** @type {any} */ (null);
  #unread = 0;
  #isAtEnd = true; // the reader is at the newest message
  #scrolling = 0;

  /** @param {import("./room.js").Room} room */
  constructor(room) {
    this.#room = room;
    const messages = $("messages");
    messages.onscroll = () => {
      this.#isAtEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 80;
      if (this.#isAtEnd) $("jump").hidden = true;
    };
    $("jump").onclick = () => messages.scrollTo(0, messages.scrollHeight);
    // A phone's keyboard, a turned screen.
    new ResizeObserver(() => this.#isAtEnd && this.#scrollSoon()).observe(messages);
  }

  clear(channel) {
    this.#last = null;
    $("list").replaceChildren();
    $("empty").hidden = false;
    $("jump").hidden = true;
    document.title = `${channel} · Heartwire`;
  }

  /** The page is seen again. */
  seen() {
    this.#unread = 0;
    document.title = `${this.#room.channel} · Heartwire`;
  }

  show(publication) {
    const { from, kind, note, text, at = Date.now() } = readable(publication);
    if (publication.client) {
      if (this.names.size > 1000) this.names.clear();
      this.names.set(publication.client, from);
    }
    const own = publication.mine || (kind === "chat" && from === $("nick").value);
    const follows =
      this.#last?.from === from && this.#last.own === own && Math.abs(at - this.#last.at) < GROUP_MS;
    const item = make("li", { className: `message${own ? " own" : ""}${follows ? " follows" : ""}` });
    item.style.setProperty("--hue", hue(from));
    const time = make("time", { dateTime: new Date(at).toISOString() }, clock(at));
    const way = make("span", {}, LABELS[publication.transport] ?? "");
    const place = make("code", { title: "position" }, publication.position);
    item.append(
      avatar(from),
      make("p", { className: "author" }, from, time),
      make(kind === "raw" ? "pre" : "p", { className: "body" }, text),
      make("p", { className: "trace" }, note ? make("span", {}, note) : "", way, place),
    );
    this.#last = { from, own, at };
    this.#append(item, own);
  }

  /** Adds to the list, keeps it bounded, and stays at the end if the reader is there. */
  #append(item, own = false) {
    const list = $("list");
    list.append(item);
    while (list.childElementCount > MESSAGE_LIMIT) list.firstElementChild.remove();
    $("empty").hidden = true;
    if (own) this.#isAtEnd = true;
    if (this.#isAtEnd) this.#scrollSoon();
    else $("jump").hidden = false;
    if (document.hidden && item.classList.contains("message"))
      document.title = `(${++this.#unread}) ${this.#room.channel} · Heartwire`;
  }

  /** Once per frame: a replay of thousands of messages is laid out once. */
  #scrollSoon() {
    this.#scrolling ||= requestAnimationFrame(() => {
      this.#scrolling = 0;
      $("messages").scrollTop = $("messages").scrollHeight;
    });
  }

  showDivider(text, kind = "") {
    const item = make("li", { className: `divider ${kind}` }, make("span", {}, text));
    this.#last = null;
    this.#append(item);
    return item.firstElementChild;
  }

  showOutbox() {
    const entries = [...this.#room.outbox.values()].filter(({ channel }) => channel === this.#room.channel);
    $("pending").replaceChildren(...entries.map(entry => this.#unconfirmed(entry)));
    if (!entries.length) return;
    $("empty").hidden = true;
    this.#scrollSoon();
  }

  #unconfirmed({ id, text, kept, refused }) {
    const waits = this.#room.state === "online" ? "sent, not answered yet" : "waits for the connection";
    const status = refused ? `refused: ${refused}` : kept ? "kept by the server" : waits;
    const onclick = () => this.#room.discard(id);
    const remove = make("button", { type: "button", className: "plain", onclick }, "Remove");
    const trace = make("p", { className: "trace" }, make("span", {}, status), refused ? remove : "");
    const className = `message own unconfirmed${refused ? " refused" : ""}`;
    return make("li", { className }, make("p", { className: "body" }, text), trace);
  }
}
