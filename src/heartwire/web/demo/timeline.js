/*
 * Heartwire demo, 3 of 7: the last two minutes.
 *
 * Three lanes on one canvas: the weather (the cause), the client's state with its transport, pings and
 * attempts (the effect), and publications sent and received by the second (the purpose). The colours come
 * from the style sheet.
 */

import { colours, fit } from "./parts.js";

const WINDOW_MS = 120_000;
const FRAME_MS = 50;
const CALM_FRAME_MS = 1000; // for those who asked for less motion
const LANE_WIDTH = 66; // the lanes' names
const INK = { online: "good", connecting: "warn", waiting: "warn", offline: "bad", closed: "faint" };

/** Values over time; those that are not shown any more are forgotten. */
class Spans {
  #spans = [];

  set(value, label) {
    const last = this.#spans.at(-1);
    if (last?.value !== value || last.label !== label)
      this.#spans.push({ at: performance.now(), value, label });
  }

  *since(start, now) {
    while (this.#spans.length > 1 && this.#spans[1].at < start) this.#spans.shift();
    for (const [index, span] of this.#spans.entries())
      yield { ...span, until: this.#spans[index + 1]?.at ?? now, isLast: span === this.#spans.at(-1) };
  }
}

export class Timeline {
  #canvas;
  #states = new Spans();
  #weather = new Spans();
  #marks = []; // {at, kind: "ping" | "attempt" | "strike" | "in" | "out"}
  #drawnAt = 0;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
    const calm = matchMedia("(prefers-reduced-motion: reduce)");
    const frame = at => {
      if (at - this.#drawnAt >= (calm.matches ? CALM_FRAME_MS : FRAME_MS)) {
        this.#drawnAt = at;
        this.#draw(performance.now());
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  setState(state, label) {
    this.#states.set(state, label);
  }

  setWeather(name, label) {
    this.#weather.set(name, label);
  }

  /** @param {"ping"|"attempt"|"strike"|"in"|"out"} kind */
  mark(kind, label = "") {
    this.#marks.push({ at: performance.now(), kind, label });
    if (this.#marks.length > 8000) this.#marks.splice(0, 2000);
  }

  #draw(now) {
    const canvas = this.#canvas;
    if (!canvas.clientWidth) return;
    const pen = fit(canvas);
    const ink = colours(canvas, "ink", "muted", "faint", "line", "good", "warn", "bad", "accent", "blue");
    const { clientWidth: width, clientHeight: height } = canvas;
    const start = now - WINDOW_MS;
    while (this.#marks.length && this.#marks[0].at < start) this.#marks.shift();
    const x = at => LANE_WIDTH + Math.max(0, (at - start) / WINDOW_MS) * (width - LANE_WIDTH - 10);
    const third = (height - 8) / 3;
    const lane = index => ({ top: 4 + index * third + 2, size: third - 4 });
    const view = { pen, ink, x, start, width };
    for (const [index, name] of ["Weather", "Client", "Messages"].entries())
      drawName(view, name, lane(index));
    const weatherInk = ({ value }) => (value === "clear" ? "" : ink.warn);
    drawSpans(view, this.#weather.since(start, now), lane(0), weatherInk, true);
    drawSpans(view, this.#states.since(start, now), lane(1), ({ value }) => ink[INK[value]]);
    drawMarks(view, this.#marks, lane(0), lane(1));
    drawBars(view, this.#marks, lane(2));
  }
}

function drawName({ pen, ink, width }, name, { top, size }) {
  pen.fillStyle = ink.muted;
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  pen.fillText(name, 8, top + size / 2);
  pen.fillStyle = ink.line;
  pen.fillRect(LANE_WIDTH, top + size + 1, width - LANE_WIDTH - 10, 1);
}

/** Coloured stretches of time, with their names where there is room: not everybody sees colours. */
function drawSpans({ pen, x, start }, spans, { top, size }, colourOf, isAlone = false) {
  pen.font = "600 11px system-ui, sans-serif";
  let isBeside = false; // another coloured one
  for (const span of spans) {
    const colour = colourOf(span);
    const mayStandBefore = span.isLast && isAlone && !isBeside;
    isBeside = Boolean(colour);
    if (!colour) continue;
    const from = x(Math.max(span.at, start));
    const wide = Math.max(1.5, x(span.until) - from - 1);
    pen.globalAlpha = 0.2;
    pen.fillStyle = colour;
    pen.fillRect(from, top, wide, size);
    pen.globalAlpha = 1;
    pen.fillRect(from, top, Math.min(2, wide), size);
    const labelWidth = pen.measureText(span.label).width;
    if (labelWidth < wide - 10) pen.fillText(span.label, from + 6, top + size / 2 + 0.5);
    else if (mayStandBefore) pen.fillText(span.label, from - labelWidth - 6, top + size / 2 + 0.5);
  }
}

function drawMarks({ pen, ink, x, width }, marks, weather, client) {
  for (const { at, kind, label } of marks) {
    if (kind === "attempt") {
      pen.fillStyle = ink.ink;
      pen.fillRect(x(at) - 0.75, client.top - 2, 1.5, 6);
    } else if (kind === "ping") {
      pen.fillStyle = ink.accent;
      pen.beginPath();
      pen.arc(x(at), client.top + client.size - 3, 2.2, 0, 7);
      pen.fill();
    } else if (kind === "strike") {
      pen.fillStyle = ink.bad;
      pen.beginPath();
      pen.moveTo(x(at) - 5, weather.top);
      pen.lineTo(x(at) + 5, weather.top);
      pen.lineTo(x(at), weather.top + 9);
      pen.fill();
      const labelWidth = pen.measureText(label).width;
      const isRoom = x(at) + labelWidth + 18 < width;
      pen.fillText(label, isRoom ? x(at) + 8 : x(at) - labelWidth - 8, weather.top + weather.size / 2 + 0.5);
    }
  }
}

/** By the second: sent up from the middle, received down from it. */
function drawBars({ pen, ink, x, start }, marks, { top, size }) {
  const buckets = new Map();
  for (const { at, kind } of marks) {
    if (kind !== "in" && kind !== "out") continue;
    const second = Math.floor(at / 1000);
    if (!buckets.has(second)) buckets.set(second, { in: 0, out: 0 });
    buckets.get(second)[kind]++;
  }
  const half = size / 2;
  const long = count => Math.min(half, 1.5 + Math.sqrt(count / 40) * half); // 40 a second and more fill it
  for (const [second, counts] of buckets) {
    const from = x(Math.max(start, second * 1000));
    const wide = Math.max(1, x((second + 1) * 1000) - from - 1);
    pen.fillStyle = ink.muted;
    if (counts.out) pen.fillRect(from, top + half - long(counts.out), wide, long(counts.out));
    pen.fillStyle = ink.blue;
    if (counts.in) pen.fillRect(from, top + half, wide, long(counts.in));
  }
}
