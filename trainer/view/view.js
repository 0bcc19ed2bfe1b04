// The list of videos, and the page of one video. Every text is set as text, never as HTML.
"use strict";

const PALETTE = ["#d1495b", "#2e86ab", "#c98a1b", "#66a182", "#8d5a97", "#3d405b", "#f4845f", "#577590"];
const PLAIN = "#b9c6d3", BEST = "#2e86ab", MARKED = "#d1495b", GRID = "#d9e0e6", INK = "#1f2933";
// A browser gives times of frames in whole microseconds; rows are kept in float64.
const EPSILON_SECONDS = 0.0005;
const CHUNK_SECONDS = 10;
const JOINT_PAIRS = [[0, 1], [0, 2], [1, 3], [2, 4], [5, 6], [5, 7], [7, 9], [6, 8], [8, 10], [5, 11], [6, 12],
  [11, 12], [11, 13], [13, 15], [12, 14], [14, 16]];

const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function el(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name.includes("-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function timeText(seconds, digits = 3) {
  const sign = seconds < 0 ? "−" : "";
  const rounded = Math.abs(seconds).toFixed(digits);
  const minutes = Math.floor(Number(rounded) / 60);
  const rest = (Number(rounded) - 60 * minutes).toFixed(digits);
  return `${sign}${minutes}:${rest.padStart(digits ? digits + 3 : 2, "0")}`;
}

function numberText(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

const spanText = ([start, end]) => `[${start.toFixed(3)}, ${end.toFixed(3)})`;
const holds = ([start, end], t) => start <= t + EPSILON_SECONDS && t + EPSILON_SECONDS < end;

function problemList(problems) {
  if (!problems.length) return null;
  return el("ul", { className: "problem-list" }, ...problems.map((text) => el("li", {}, text)));
}

function markList(notes) {
  if (!notes.length) return null;
  return el("ul", { className: "marks" }, ...notes.map((text) => el("li", {}, text)));
}

// `random weights (random:0): no result ...` → `random weights`.
const shortMark = (note) => note.split(/[:(]/)[0].trim();

// A word for the lane of a score: its whole note stands in the prediction or in the table of variants.
function laneTag(note) {
  if (note.includes("random:")) return "random weights";
  return note.includes("planted:") ? "planted rows" : shortMark(note);
}

// One line for each note, with the variants that it is about.
function marksOf(variants) {
  const names = new Map();
  for (const one of variants) for (const note of one.notes) names.set(note, [...(names.get(note) || []), shortName(one.name)]);
  return [...names].map(([note, of]) => `${of.join(", ")}: ${note}`);
}

const shortName = (variant) => variant.replace(/-[0-9a-f]{12}$/, "");

function stateTag(state) {
  return el("span", { className: `tag ${state.split(":")[0].replace(/[^a-z]/g, "")}` }, state);
}

// ---- where numbers come from: this server, or this very file --------------------------------

class Server {
  constructor(base) { this.base = base; }
  async json(path) {
    const answer = await fetch(this.base + path);
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.problem);
    return content;
  }
  list(query) { return this.json(`api/videos?${query}`); }
  details(id) { return this.json(`api/videos/${id}`); }
  strips(id, variant) { return this.json(`api/videos/${id}/features/${variant}`); }
  overlays(id, from, to) { return this.json(`api/videos/${id}/overlays?from=${from}&to=${to}`); }
  pictureAddress(id, seconds) { return `${this.base}frame/${id}?at=${seconds}`; }
  mediaAddress(id) { return `${this.base}media/${id}`; }
  pageAddress(id) { return `${this.base}video/${id}`; }
}

class SingleFile {
  constructor(data) { this.data = data; }
  async details() { return this.data.details; }
  async strips(id, variant) { return this.data.strips[variant]; }
  async overlays(id, from, to) {
    // Everything is there already; each call takes its part.
    const all = this.data.overlays;
    const overlays = all.overlays.map((one) => {
      const kept = one.spans.map((span, row) => [span, row]).filter(([span]) => span[0] < to && span[1] > from);
      return { ...one, first_row: one.first_row + (kept.length ? kept[0][1] : 0),
        spans: kept.map(([span]) => span), items: kept.map(([, row]) => one.items[row]) };
    });
    return { from, until: to, overlays, problems: all.problems };
  }
  pictureAddress(id, seconds) {
    if (id !== this.data.details.id) return null;
    const spans = this.data.details.pictures.spans;
    let row = 0;
    while (row + 1 < spans.length && spans[row + 1][0] <= seconds + EPSILON_SECONDS) row += 1;
    return `data:image/jpeg;base64,${this.data.pictures[row]}`;
  }
  mediaAddress(id) { return id === this.data.details.id ? this.data.media : null; }
  pageAddress() { return null; }
}

// ---- the list of videos ---------------------------------------------------------------------

class ListPage {
  constructor(source) {
    this.source = source;
    this.asked = 0;
    const given = new URLSearchParams(location.search);
    byId("q").value = given.get("q") || "";
    this.state = given.get("state") || "";
    this.variant = given.get("variant") || "";
    this.page = Number(given.get("page")) || 1;
    let timer = 0;
    byId("q").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.change({}), 150);
    });
    document.querySelector("form.search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.change({});
    });
    byId("state").addEventListener("change", (event) => this.change({ state: event.target.value }));
    byId("variant").addEventListener("change", (event) => this.change({ variant: event.target.value }));
    byId("previous").addEventListener("click", () => this.change({ page: this.page - 1 }));
    byId("next").addEventListener("click", () => this.change({ page: this.page + 1 }));
    this.load();
  }
  change(fields) {
    Object.assign(this, { page: 1 }, fields);
    const query = this.query();
    history.replaceState(null, "", query ? `?${query}` : "./");
    this.load();
  }
  query() {
    const fields = { q: byId("q").value.trim(), state: this.state, variant: this.variant, page: this.page > 1 ? this.page : "" };
    return new URLSearchParams(Object.entries(fields).filter(([, value]) => value)).toString();
  }
  async load() {
    const number = ++this.asked;
    let answer;
    try {
      answer = await this.source.list(this.query());
    } catch (error) {
      byId("problems").replaceChildren(problemList([error.message]));
      return;
    }
    // A slower answer to an earlier question must not replace this one.
    if (number === this.asked) this.show(answer);
  }
  show(answer) {
    this.page = answer.page;
    byId("problems").replaceChildren(...[problemList(answer.problems), markList(marksOf(answer.variants))].filter(Boolean));
    this.fill("state", this.state, [["", "all"], ...this.stateChoices(answer.states)]);
    this.fill("variant", this.variant, [["", "any variant"], ...answer.variants.map((one) => [one.name, one.name])]);
    const all = answer.matching === answer.total ? "" : ` of ${answer.total.toLocaleString("en")}`;
    byId("count").textContent = `${answer.matching.toLocaleString("en")}${all} videos`;
    const names = answer.variants.map((one) => one.name);
    const headings = ["id", "title", "duration", ...names.map(shortName)];
    byId("columns").replaceChildren(el("tr", {}, ...headings.map((text) => el("th", {}, text))));
    byId("rows").replaceChildren(...answer.videos.map((video) => this.row(video, names)));
    byId("page").textContent = `page ${answer.page} of ${answer.pages}`;
    byId("previous").disabled = answer.page <= 1;
    byId("next").disabled = answer.page >= answer.pages;
  }
  stateChoices(states) {
    return states.map(({ state, videos }) => [state, `${state} (${videos.toLocaleString("en")})`]);
  }
  fill(id, value, choices) {
    const known = choices.some(([name]) => name === value) ? choices : [...choices, [value, value]];
    byId(id).replaceChildren(...known.map(([name, text]) => el("option", { value: name, selected: name === value }, text)));
  }
  row(video, names) {
    const seconds = video.duration_seconds;
    const duration = seconds === null ? "–" : timeText(seconds, 1);
    const titles = { claimed: "as the catalog states it", rows: "end of the last row" };
    const states = video.states.map((state, number) => el("td", { className: "states" },
      el("span", { className: "variant" }, shortName(names[number])), stateTag(state)));
    return el("tr", {},
      el("td", {}, el("a", { href: this.source.pageAddress(video.id), className: "id" }, video.id)),
      el("td", {}, el("bdi", {}, video.title)),
      el("td", { className: "number", title: titles[video.duration_is] || "" }, duration), ...states);
  }
}

// ---- players: all have time(), seek(), play(), pause(), isPaused() ------------------------------

// Rows count seconds from the container's start. A browser shows the container's own clock, which
// may begin at 5 s; whether it does is seen at the first frame, whose time decoding recorded.
class MoviePlayer {
  constructor(video, details, onFrame) {
    Object.assign(this, { video, start: 0 });
    if ("requestVideoFrameCallback" in video) {
      const shown = (now, frame) => {
        onFrame(frame.mediaTime - this.start);
        video.requestVideoFrameCallback(shown);
      };
      video.requestVideoFrameCallback((now, frame) => {
        this.findStart(frame.mediaTime, details);
        shown(now, frame);
      });
    } else {
      for (const name of ["seeked", "timeupdate", "loadeddata"]) video.addEventListener(name, () => onFrame(this.time()));
    }
  }
  findStart(mediaTime, { container_start_seconds: start, first_frame_seconds: first }) {
    const isAtStart = this.video.currentTime === 0;
    if (!isAtStart || start === null || first === null) return;
    if (Math.abs(mediaTime - (start + first)) < Math.abs(mediaTime - first)) this.start = start;
  }
  time() { return Math.max(0, this.video.currentTime - this.start); }
  seek(seconds) { this.video.currentTime = seconds + this.start; }
  duration() { return this.video.duration - this.start; }
  play() { this.video.play().catch(() => { /* paused again before it began */ }); }
  pause() { this.video.pause(); }
  isPaused() { return this.video.paused; }
  setSpeed(speed) { this.video.playbackRate = speed; }
}

// Stored pictures, or nothing at all, with a clock of its own.
class StillPlayer {
  constructor(page, spans, onFrame) {
    Object.assign(this, { page, spans, onFrame, seconds: 0, speed: 1, since: null });
    this.show();
  }
  time() { return this.seconds; }
  seek(seconds) { this.seconds = seconds; this.show(); }
  play() {
    if (!this.isPaused()) return;
    if (this.seconds >= this.page.duration) this.seconds = 0;
    this.since = performance.now();
    requestAnimationFrame((now) => this.step(now));
  }
  pause() { this.since = null; }
  isPaused() { return this.since === null; }
  setSpeed(speed) { this.speed = speed; }
  step(now) {
    if (this.since === null) return;
    this.seconds = Math.min(this.page.duration, this.seconds + Math.max(0, now - this.since) / 1000 * this.speed);
    this.since = this.seconds < this.page.duration ? now : null;
    this.show();
    if (this.since !== null) requestAnimationFrame((later) => this.step(later));
  }
  show() {
    if (!this.spans) { this.onFrame(this.seconds); return; }
    let row = 0;
    while (row + 1 < this.spans.length && this.spans[row + 1][0] <= this.seconds + EPSILON_SECONDS) row += 1;
    const start = this.spans[row][0];
    if (row !== this.row) {
      this.row = row;
      byId("still").src = this.page.source.pictureAddress(this.page.id, start);
    }
    // Overlays belong to the picture that is seen, not to the clock.
    this.onFrame(start);
  }
}

// ---- rows over the frame --------------------------------------------------------------------

class Overlays {
  constructor(page, variants) {
    this.page = page;
    this.chunks = new Map();
    this.kinds = variants.flatMap((variant) => variant.overlays.map((one) => ({
      variant: variant.name, array: one.array, kind: one.kind, isOn: one.kind !== "saliency", notes: variant.notes })));
    this.kinds.forEach((one, number) => { one.colour = PALETTE[number % PALETTE.length]; });
    this.keepsLast = false;
    this.addToggles();
  }
  addToggles() {
    const chips = this.kinds.map((one, number) => {
      one.box = el("input", { type: "checkbox", checked: one.isOn });
      one.box.addEventListener("change", () => { one.isOn = one.box.checked; this.draw(); });
      one.box.dataset.overlay = `${one.variant} ${one.array}`;
      const swatch = el("span", { className: "swatch" });
      swatch.style.background = one.colour;
      const name = `${shortName(one.variant)} ${one.array}`;
      return el("label", { className: "chip", title: `key ${number + 1}` }, one.box, swatch, name);
    });
    const last = el("input", { type: "checkbox", id: "keep-last" });
    last.addEventListener("change", () => { this.keepsLast = last.checked; this.draw(); });
    if (chips.length) chips.push(el("label", { className: "chip" }, last, "keep the last row, dashed"));
    const none = chips.length ? null : el("span", { className: "small" }, "no detections, joints or saliency are stored");
    byId("toggles").append(...chips, ...(none ? [none] : []));
  }
  toggle(number) {
    const one = this.kinds[number];
    if (one) { one.box.checked = !one.box.checked; one.isOn = one.box.checked; this.draw(); }
  }
  // Rows of ten seconds at a time.
  async need(seconds) {
    if (!this.kinds.length) return;
    const number = Math.floor(seconds / CHUNK_SECONDS);
    for (const one of [number, number + 1]) if (!this.chunks.has(one)) this.load(one);
  }
  async load(number) {
    const rows = new Map();
    this.chunks.set(number, rows);
    let from = number * CHUNK_SECONDS;
    const to = from + CHUNK_SECONDS;
    try {
      while (from < to) {
        const answer = await this.page.source.overlays(this.page.id, from, to);
        for (const one of answer.overlays) this.keep(rows, one);
        for (const text of answer.problems) this.page.addProblem(text);
        from = answer.until;
      }
    } catch (error) {
      this.page.addProblem(error.message);
    }
    this.draw();
  }
  keep(rows, one) {
    const name = `${one.variant} ${one.array}`;
    if (!rows.has(name)) rows.set(name, []);
    one.spans.forEach((span, place) => rows.get(name).push({ span, row: one.first_row + place, items: one.items[place] }));
  }
  rowsOf(one, t) {
    const rows = this.chunks.get(Math.floor((t + EPSILON_SECONDS) / CHUNK_SECONDS));
    return (rows && rows.get(`${one.variant} ${one.array}`)) || [];
  }
  find(one, t) {
    const rows = this.rowsOf(one, t);
    const found = rows.find((row) => holds(row.span, t));
    if (found) return { ...found, isExact: true };
    const earlier = rows.filter((row) => row.span[0] <= t + EPSILON_SECONDS);
    return earlier.length ? { ...earlier[earlier.length - 1], isExact: false } : null;
  }
  // The nearest start of a row of a shown overlay, before or after `t`.
  neighbour(t, direction) {
    const starts = [];
    for (const rows of this.chunks.values())
      for (const one of this.kinds) if (one.isOn) for (const row of rows.get(`${one.variant} ${one.array}`) || []) starts.push(row.span[0]);
    const beyond = starts.filter((start) => (start - t) * direction > 0.001).sort((a, b) => direction * (a - b));
    return beyond.length ? beyond[0] : null;
  }
  draw() {
    const t = this.page.frameSeconds;
    const canvas = byId("overlay"), box = byId("screen").getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(box.width * ratio), height = Math.round(box.height * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const [frameWidth, frameHeight] = this.page.frameSize();
    const scale = { x: width / frameWidth, y: height / frameHeight, ratio };
    const lines = [], marks = new Set();
    for (const one of this.kinds) {
      const found = this.find(one, t);
      if (!one.isOn) continue;
      lines.push(this.line(one, found));
      if (!found || !(found.isExact || this.keepsLast)) continue;
      context.save();
      context.globalAlpha = found.isExact ? 1 : 0.6;
      context.setLineDash(found.isExact ? [] : [5 * ratio, 4 * ratio]);
      DRAW[one.kind](context, found.items, one, scale, this.page.classes);
      context.restore();
      for (const note of one.notes) marks.add(`${shortName(one.variant)}: ${shortMark(note)}`);
    }
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    if (marks.size) drawTag(context, [...marks].join(", "), 0, height, ratio, "#9a3412");
    byId("rows-now").replaceChildren(...lines);
    canvas.dataset.seconds = String(t);
  }
  line(one, found) {
    const name = `${shortName(one.variant)} ${one.array}: `;
    if (!found) return el("p", {}, `${name}none at this frame`);
    const count = Array.isArray(found.items) ? ` · ${found.items.length} ${found.items.length === 1 ? "item" : "items"}` : "";
    const state = found.isExact ? "" : "none at this frame; last ";
    return el("p", {}, `${name}${state}row ${found.row} ${spanText(found.span)}${count}`);
  }
}

// A text on a ground, its lower left corner at (left, bottom), moved into the canvas.
function drawTag(context, text, left, bottom, ratio, colour) {
  const wide = context.measureText(text).width + 6 * ratio, high = 15 * ratio;
  const edge = clamp(left, 0, Math.max(0, context.canvas.width - wide));
  const top = clamp(bottom - high, 0, context.canvas.height - high);
  context.fillStyle = colour;
  context.fillRect(edge, top, wide, high);
  context.fillStyle = "#fff";
  context.fillText(text, edge + 3 * ratio, top + 11 * ratio);
}

const DRAW = {
  boxes(context, items, one, { x, y, ratio }, classes) {
    context.lineWidth = 2 * ratio;
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.strokeStyle = one.colour;
    for (const [left, top, right, bottom] of items) context.strokeRect(left * x, top * y, (right - left) * x, (bottom - top) * y);
    // After all boxes, so that no line crosses a name.
    for (const [left, top, , , score, kind] of items) {
      const name = kind === undefined ? "" : `${classes[kind] || `class ${kind}`} `;
      drawTag(context, `${name}${score.toFixed(2)}`, left * x, top * y, ratio, one.colour);
    }
  },
  joints(context, persons, one, { x, y, ratio }) {
    persons.forEach((joints, number) => {
      context.strokeStyle = context.fillStyle = PALETTE[(number + PALETTE.indexOf(one.colour)) % PALETTE.length];
      context.lineWidth = 2 * ratio;
      for (const [from, to] of JOINT_PAIRS) {
        context.beginPath();
        context.moveTo(joints[from][0] * x, joints[from][1] * y);
        context.lineTo(joints[to][0] * x, joints[to][1] * y);
        context.stroke();
      }
      for (const [left, top] of joints) {
        context.beginPath();
        context.arc(left * x, top * y, 3 * ratio, 0, 2 * Math.PI);
        context.fill();
      }
    });
  },
  saliency(context, map) {
    const bytes = Uint8Array.from(atob(map.base64), (sign) => sign.charCodeAt(0));
    const image = new ImageData(map.width, map.height);
    bytes.forEach((level, place) => {
      // From clear over orange to yellow.
      image.data.set([255, Math.round(level * 0.85), 0, Math.round(level * 0.65)], 4 * place);
    });
    const small = el("canvas", { width: map.width, height: map.height });
    small.getContext("2d").putImageData(image, 0, 0);
    context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
  },
};

// ---- the timeline ---------------------------------------------------------------------------

class Timeline {
  constructor(page) {
    this.page = page;
    this.lanes = [];
    this.view = [0, page.duration];
    this.pointers = new Map();
    byId("zoom-in").addEventListener("click", () => this.zoom(0.5));
    byId("zoom-out").addEventListener("click", () => this.zoom(2));
    byId("zoom-all").addEventListener("click", () => this.setView(0, page.duration));
    byId("pan").addEventListener("input", (event) => {
      const width = this.view[1] - this.view[0];
      const start = (page.duration - width) * Number(event.target.value) / 1000;
      this.setView(start, start + width);
    });
    new ResizeObserver(() => this.draw()).observe(byId("lanes"));
    this.add({ name: "seconds", height: 20, draw: drawAxis, describe: () => "" });
  }
  heading(text) { byId("lanes").append(el("div", { className: "lane-title" }, text)); }
  add(lane) {
    const notes = (lane.notes || []).map((note) => el("span", { className: "tag warn" }, note));
    const below = lane.below ? el("span", { className: "small" }, lane.below) : null;
    const canvas = el("canvas");
    canvas.style.height = `${lane.height}px`;
    const name = el("div", { className: "lane-name" }, el("bdi", {}, lane.name), " ", ...notes, below);
    byId("lanes").append(el("div", { className: "lane" }, name, canvas));
    this.lanes.push({ ...lane, canvas });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event, lane));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.drawLane(this.lanes[this.lanes.length - 1]);
  }
  secondsAt(event) {
    const box = event.target.getBoundingClientRect();
    const share = clamp((event.clientX - box.left) / box.width, 0, 1);
    return this.view[0] + share * (this.view[1] - this.view[0]);
  }
  press(event) {
    event.target.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event.clientX);
    if (this.pointers.size === 1) this.page.seek(this.secondsAt(event));
  }
  move(event, lane) {
    const t = this.secondsAt(event);
    const text = lane.describe(t);
    byId("hint").textContent = `${timeText(t)} · ${lane.name}${text ? `: ${text}` : ""}`;
    if (!this.pointers.has(event.pointerId)) return;
    const before = [...this.pointers.values()];
    this.pointers.set(event.pointerId, event.clientX);
    const after = [...this.pointers.values()];
    if (this.pointers.size === 1) this.page.seek(t);
    else if (this.pointers.size === 2) this.pinch(Math.abs(before[0] - before[1]), Math.abs(after[0] - after[1]), t);
  }
  pinch(before, after, t) { if (before > 0 && after > 0) this.zoom(before / after, t); }
  wheel(event) {
    const wide = this.view[1] - this.view[0];
    if (event.ctrlKey) {
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.secondsAt(event));
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && wide < this.page.duration) {
      event.preventDefault();
      const shift = event.deltaX / 600 * wide;
      this.setView(this.view[0] + shift, this.view[1] + shift);
    }
  }
  zoom(factor, around = this.page.player.time()) {
    const [from, to] = this.view;
    const centre = clamp(around, from, to);
    const start = centre - (centre - from) * factor;
    this.setView(start, start + (to - from) * factor);
  }
  setView(from, to) {
    const width = clamp(to - from, Math.min(0.5, this.page.duration), this.page.duration);
    const start = clamp(from, 0, this.page.duration - width);
    this.view = [start, start + width];
    this.draw();
  }
  // Keeps the cursor in sight while a zoomed timeline plays.
  follow(t) {
    const [from, to] = this.view;
    if (!this.pointers.size && (t < from || t > to)) this.setView(t - 0.1 * (to - from), t + 0.9 * (to - from));
    this.drawCursor(t);
  }
  drawCursor(t) {
    const canvas = this.lanes[0].canvas, [from, to] = this.view;
    const cursor = byId("cursor");
    cursor.hidden = t < from || t > to;
    cursor.style.left = `${canvas.offsetLeft + (t - from) / (to - from) * canvas.clientWidth}px`;
  }
  draw() {
    const [from, to] = this.view;
    for (const lane of this.lanes) this.drawLane(lane);
    const rest = this.page.duration - (to - from);
    byId("pan").disabled = rest <= 0;
    byId("pan").value = rest > 0 ? String(Math.round(1000 * from / rest)) : "0";
    byId("range").textContent = `${timeText(from, 1)} to ${timeText(to, 1)}`;
    if (this.page.player) this.drawCursor(this.page.player.time());
  }
  drawLane(lane) {
    const canvas = lane.canvas, ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    if (!width) return;
    const size = { width: Math.round(width * ratio), height: Math.round(lane.height * ratio) };
    if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, lane.height);
    const [from, to] = this.view;
    const x = (seconds) => (seconds - from) / (to - from) * width;
    lane.draw(context, { width, height: lane.height, x, from, to, redraw: () => this.drawLane(lane) });
  }
}

function drawAxis(context, { width, x, from, to }) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200];
  const step = steps.find((one) => (to - from) / one <= width / 70) || 14400;
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = INK;
  context.strokeStyle = GRID;
  for (let number = Math.ceil(from / step - 1e-9); number * step <= to; number += 1) {
    const at = x(number * step);
    context.beginPath();
    context.moveTo(at + 0.5, 14);
    context.lineTo(at + 0.5, 20);
    context.stroke();
    const text = timeText(number * step, step < 1 ? 1 : 0);
    context.fillText(text, clamp(at - 12, 0, width - context.measureText(text).width), 11);
  }
}

const visible = ([start, end], { from, to }) => start < to && end > from;

function rowAt(spans, t) {
  for (let row = spans.length - 1; row >= 0; row -= 1) if (spans[row][0] <= t && t < spans[row][1]) return row;
  return -1;
}

// Until the next row begins, or the row's own end where rows overlap.
const nextStart = (spans, row) => (row + 1 < spans.length ? Math.max(spans[row + 1][0], spans[row][0]) : spans[row][1]);

function stripLane(strip, notes) {
  const cells = strip.rows_per_cell > 1 ? `each colour is the mean of ${strip.rows_per_cell} rows` : "";
  const describe = (t) => {
    const row = rowAt(strip.spans, t);
    if (row < 0) return "no row";
    const value = strip.kind === "counts" ? ` · ${numberText(strip.values[row])} items` : "";
    return `row ${row * strip.rows_per_cell} ${spanText(strip.spans[row])}${value}`;
  };
  const most = Math.max(1, ...(strip.kind === "counts" ? strip.values : []));
  const below = strip.kind === "counts" ? `items in each row, 0 to ${numberText(most)}` : cells;
  const draw = (context, area) => {
    strip.spans.forEach((span, row) => {
      const until = Math.max(span[1], nextStart(strip.spans, row));
      if (!visible([span[0], until], area)) return;
      const share = strip.kind === "counts" ? strip.values[row] / most : 1;
      const colour = strip.kind === "counts" ? BEST : `rgb(${strip.values[row].join(" ")})`;
      const top = area.height * (1 - share), left = area.x(span[0]);
      context.fillStyle = colour;
      context.globalAlpha = 0.4;
      context.fillRect(left, top, area.x(until) - left, area.height - top);
      context.globalAlpha = 1;
      context.fillRect(left, top, Math.max(1, area.x(span[1]) - left), area.height - top);
    });
  };
  return { name: strip.array, notes, below, height: 22, draw, describe };
}

function labelLane(lane, colour) {
  const values = lane.spans.map(([, , value]) => value);
  const low = Math.min(...values), high = Math.max(...values);
  const describe = (t) => lane.spans.filter(([start, end]) => start <= t && t < end)
    .map(([start, end, value]) => `${spanText([start, end])} value ${numberText(value)}`).join("; ") || "no label";
  const draw = (context, area) => {
    for (const [start, end, value] of lane.spans) {
      if (!visible([start, end], area)) continue;
      context.globalAlpha = high > low ? 0.2 + 0.8 * (value - low) / (high - low) : 1;
      context.fillStyle = value > 0 ? colour : PLAIN;
      context.fillRect(area.x(start), 2, Math.max(1, area.x(end) - area.x(start)), area.height - 4);
    }
    context.globalAlpha = 1;
  };
  const below = high > low ? `values ${numberText(low)} to ${numberText(high)}; darker is higher` : "";
  return { name: lane.annotator, below, height: 18, draw, describe };
}

// Bars begin at zero. Where that would hide all differences they do not, and the lane says so.
function barLane({ name, notes, spans, scores, best, marked, what }) {
  const low = Math.min(...scores), high = Math.max(...scores);
  const isClose = high - low < 0.2 * Math.max(Math.abs(low), Math.abs(high)) && low * high > 0 && high > low;
  const floor = isClose ? low - 0.1 * (high - low) : Math.min(0, low);
  const ceiling = isClose ? high : Math.max(0, high, floor + 1e-12);
  const zero = isClose ? floor : 0;
  const axis = isClose ? `${numberText(floor)} to ${numberText(ceiling)}; bars do NOT begin at 0` : `${numberText(floor)} to ${numberText(ceiling)}, bars from 0`;
  const describe = (t) => {
    const row = rowAt(spans, t);
    return row < 0 ? "no score" : `${spanText(spans[row])} score ${numberText(scores[row])}`;
  };
  const draw = (context, area) => {
    const y = (value) => (1 - (value - floor) / (ceiling - floor)) * (area.height - 4) + 2;
    for (const [start, end] of marked || []) {
      context.fillStyle = "rgb(209 73 91 / 22%)";
      context.fillRect(area.x(start), 0, area.x(end) - area.x(start), area.height);
    }
    spans.forEach((span, row) => {
      if (!visible(span, area)) return;
      context.fillStyle = !best || best.has(row) ? BEST : PLAIN;
      const left = area.x(span[0]), wide = area.x(span[1]) - left;
      const top = Math.min(y(scores[row]), y(zero));
      context.fillRect(left, top, Math.max(1, wide - (wide > 4 ? 1 : 0)), Math.max(1, Math.abs(y(scores[row]) - y(zero))));
    });
    context.strokeStyle = INK;
    context.beginPath();
    context.moveTo(0, y(zero));
    context.lineTo(area.width, y(zero));
    context.stroke();
  };
  return { name, notes, below: [what, axis].filter(Boolean).join(" · "), height: 44, draw, describe };
}

function pictureLane(page, spans) {
  const images = new Map();
  const draw = (context, area) => {
    const [frameWidth, frameHeight] = page.frameSize();
    const wide = Math.max(24, area.height * frameWidth / frameHeight);
    const count = Math.max(1, Math.ceil(area.width / wide));
    for (let number = 0; number < count; number += 1) {
      const t = area.from + (number + 0.5) * wide / area.width * (area.to - area.from);
      if (t > page.duration) break;
      let row = 0;
      while (row + 1 < spans.length && spans[row + 1][0] <= t) row += 1;
      if (!images.has(row)) {
        const image = el("img");
        image.addEventListener("load", area.redraw);
        image.src = page.source.pictureAddress(page.id, spans[row][0]);
        images.set(row, image);
      }
      const image = images.get(row);
      if (image.complete && image.naturalWidth) context.drawImage(image, number * wide, 0, wide - 1, area.height);
    }
  };
  return { name: "stored pictures", below: `${spans.length} of them`, height: 48, draw, describe: () => "" };
}

// ---- the page of a video --------------------------------------------------------------------

class VideoPage {
  constructor(source, id) {
    Object.assign(this, { source, id, frameSeconds: 0, duration: 1, problems: new Set(), isReady: false });
    this.start();
  }
  async start() {
    try {
      this.details = await this.source.details(this.id);
    } catch (error) {
      this.addProblem(error.message);
      return;
    }
    const details = this.details;
    this.classes = details.classes;
    this.duration = this.knownDuration();
    this.showFacts();
    this.fitScreen();
    this.overlays = new Overlays(this, details.variants);
    this.timeline = new Timeline(this);
    this.addPlayer();
    this.addControls();
    this.addLanes();
    this.showPredictions();
    this.showVariants();
    this.timeline.draw();
    await this.addStrips();
    this.isReady = true;
    document.body.dataset.ready = "yes";
  }
  // Until the player knows better: where rows end, else what the catalog states and labels reach.
  knownDuration() {
    const { end_seconds, duration_seconds, labels } = this.details;
    if (end_seconds) return Math.max(end_seconds, 0.5);
    const ends = labels.lanes.flatMap((lane) => lane.spans.map(([, end]) => end));
    return ends.reduce((most, end) => Math.max(most, end), Math.max(duration_seconds || 0, 0.5));
  }
  addProblem(text) {
    this.problems.add(text);
    byId("problems").replaceChildren(problemList([...this.problems]));
  }
  frameSize() {
    const video = byId("video");
    if (this.details.frame_size) return this.details.frame_size;
    return video.videoWidth ? [video.videoWidth, video.videoHeight] : [16, 9];
  }
  fitScreen() {
    const video = byId("video"), [width, height] = this.frameSize();
    // What is seen: the player's own aspect ratio, which pixels that are not square change.
    const shown = video.videoWidth ? video.videoWidth / video.videoHeight : width / height;
    const screen = byId("screen");
    screen.style.aspectRatio = String(shown);
    screen.style.width = `min(100%, calc(${window.matchMedia("(max-width: 760px)").matches ? 34 : 48}vh * ${shown}))`;
  }
  showFacts() {
    const details = this.details;
    byId("title").replaceChildren(el("bdi", {}, details.title || details.id));
    const rows = [["id", el("span", { className: "id" }, details.id)]];
    if (details.duration_seconds !== null)
      rows.push(["duration", `${timeText(details.duration_seconds, 2)} ${details.duration_is === "claimed" ? "as the catalog states it" : "by its rows"}`]);
    if (details.end_seconds !== null) rows.push(["rows end at", timeText(details.end_seconds, 3)]);
    const media = details.media;
    const size = details.frame_size ? `${details.frame_size[0]} × ${details.frame_size[1]} pixels` : "";
    const file = media.is_available ? `${media.content_type}, ${(media.size_bytes / 1e6).toFixed(2)} MB` : "";
    if (size || file) rows.push(["file", [size, file].filter(Boolean).join(", ")]);
    for (const [key, value] of Object.entries(details.metadata)) if (key !== "title") rows.push([key, el("bdi", {}, value)]);
    const table = el("table", { className: "facts" }, ...rows.map(([name, value]) => el("tr", {}, el("th", {}, el("bdi", {}, name)), el("td", {}, value))));
    byId("facts").replaceChildren(...[markList([...(media.notes || []), ...marksOf(details.variants)]), table].filter(Boolean));
    for (const text of [...details.problems, ...details.scores.problems, ...details.predictions.problems]) this.addProblem(text);
    for (const one of details.variants) if (one.problem) this.addProblem(`${one.name} cannot be read. ${one.problem}`);
  }
  addPlayer() {
    const video = byId("video"), address = this.source.mediaAddress(this.id);
    if (!this.details.media.is_available || !address) {
      this.useStills(this.details.media.is_available ? "the video is not in this file" : `no video: ${this.details.media.reason}`);
      return;
    }
    this.player = new MoviePlayer(video, this.details, (seconds) => this.frameShown(seconds));
    video.muted = true;
    video.addEventListener("loadedmetadata", () => {
      // The file may end after its last row.
      this.fitScreen();
      this.useDuration();
    });
    video.addEventListener("error", () => this.useStills("this browser cannot play the file"));
    const tick = () => {
      this.timeChanged();
      if (!video.paused) requestAnimationFrame(tick);
    };
    for (const name of ["play", "pause", "seeked", "seeking", "ended"]) video.addEventListener(name, tick);
    video.src = address;
  }
  useStills(reason) {
    const pictures = this.details.pictures;
    byId("video").hidden = true;
    byId("sound").hidden = true;
    byId("still").hidden = !pictures;
    byId("nothing").hidden = Boolean(pictures);
    byId("nothing").textContent = "No video and no stored pictures.";
    byId("player-note").textContent = pictures ? `Stored pictures, because ${reason}.` : `${reason}.`;
    this.player = new StillPlayer(this, pictures && pictures.spans, (seconds) => {
      this.frameShown(seconds);
      if (this.player) this.timeChanged();
    });
    this.timeChanged();
  }
  useDuration() {
    const seconds = this.player.duration();
    if (!Number.isFinite(seconds)) return;
    this.duration = Math.max(this.details.end_seconds || 0, seconds);
    this.timeline.setView(0, this.duration);
  }
  frameShown(seconds) {
    if (this.player && this.player.start && !this.knowsStart) {
      this.knowsStart = true;
      this.useDuration();
    }
    this.frameSeconds = seconds;
    this.overlays.need(seconds);
    this.overlays.draw();
  }
  timeChanged() {
    const t = this.player.time();
    byId("clock").textContent = `${timeText(t)} / ${timeText(this.duration, 1)}`;
    byId("play").textContent = this.player.isPaused() ? "Play" : "Pause";
    this.timeline.follow(t);
    this.updateWeights(t);
  }
  seek(seconds) {
    this.player.seek(clamp(seconds, 0, this.duration));
    this.timeChanged();
  }
  playOrPause() {
    if (this.player.isPaused()) this.player.play();
    else this.player.pause();
    this.timeChanged();
  }
  addControls() {
    byId("play").addEventListener("click", () => this.playOrPause());
    byId("speed").addEventListener("change", (event) => this.player.setSpeed(Number(event.target.value)));
    byId("sound").addEventListener("click", (event) => {
      const video = byId("video");
      video.muted = !video.muted;
      event.target.textContent = video.muted ? "Muted" : "Sound on";
      event.target.setAttribute("aria-pressed", String(!video.muted));
    });
    window.addEventListener("resize", () => { this.fitScreen(); this.overlays.draw(); });
  }
  key(event) {
    const actions = {
      " ": () => this.playOrPause(), k: () => this.playOrPause(),
      ArrowLeft: () => this.seek(this.player.time() - 1), ArrowRight: () => this.seek(this.player.time() + 1),
      j: () => this.seek(this.player.time() - 10), l: () => this.seek(this.player.time() + 10),
      ArrowUp: () => this.toRow(-1), ArrowDown: () => this.toRow(1),
      "+": () => this.timeline.zoom(0.5), "=": () => this.timeline.zoom(0.5), "-": () => this.timeline.zoom(2),
      0: () => this.timeline.setView(0, this.duration),
    };
    if (/^[1-9]$/.test(event.key)) actions[event.key] = () => this.overlays.toggle(Number(event.key) - 1);
    if (!this.player || !actions[event.key]) return false;
    actions[event.key]();
    return true;
  }
  toRow(direction) {
    const start = this.overlays.neighbour(this.frameSeconds, direction);
    // A little inside the row, so that the player does not round to the frame before it.
    if (start !== null) this.seek(start + 0.002);
  }
  addLanes() {
    const { labels, scores, predictions, pictures } = this.details, timeline = this.timeline;
    if (pictures) timeline.add(pictureLane(this, pictures.spans));
    if (labels.lanes.length || labels.notes.length) timeline.heading(["labels", ...labels.notes].join(" · "));
    labels.lanes.forEach((lane, number) => timeline.add(labelLane(lane, PALETTE[number % PALETTE.length])));
    if (scores.lanes.length) timeline.heading(["scores of models", ...scores.notes].join(" · "));
    for (const lane of scores.lanes)
      timeline.add(barLane({ name: lane.run, notes: lane.notes.map(laneTag), spans: lane.spans, scores: lane.scores,
        what: [lane.model, lane.user && `user ${lane.user}`].filter(Boolean).join(", ") }));
    if (predictions.predictions.length) timeline.heading(["predictions", ...predictions.notes].join(" · "));
    for (const one of predictions.predictions) this.addPredictionLane(one);
  }
  addPredictionLane(one) {
    const n = one.segments.length, count = n > 1 ? Math.min(5, Math.floor(n / 2)) : 0;
    const best = new Set(one.segments.flatMap((segment, row) => (segment.rank <= count ? [row] : [])));
    const what = count ? `the ${count === 1 ? "highest" : `${count} highest`} of ${n} segments ${count === 1 ? "is" : "are"} blue` : `${n} segment`;
    const marked = one.marked.length ? "; red: marked by the person" : "";
    this.timeline.add(barLane({ name: `for ${one.person || "no user"}, by ${one.model}`, notes: [...new Set(one.notes.map(laneTag))].filter((tag) => !tag.startsWith("no attention")),
      spans: one.segments.map(({ start, end }) => [start, end]), scores: one.segments.map(({ score }) => score),
      best, marked: one.marked, what: what + marked }));
  }
  async addStrips() {
    for (const variant of this.details.variants) {
      if (!variant.rows || variant.problem) continue;
      try {
        const answer = await this.source.strips(this.id, variant.name);
        const strips = answer.strips.filter((strip) => strip.kind !== "pictures" && strip.spans.length);
        for (const text of answer.problems) this.addProblem(`${variant.name}: ${text}`);
        if (!strips.length) continue;
        this.timeline.heading(`${variant.name} · ${answer.rows} rows`);
        const notes = variant.notes.map(shortMark);
        for (const strip of strips) this.timeline.add(stripLane(strip, notes));
      } catch (error) {
        this.addProblem(`${variant.name} cannot be read. ${error.message}`);
      }
    }
    this.timeline.draw();
  }
  showPredictions() {
    const box = byId("predictions"), found = this.details.predictions.predictions;
    box.append(el("h2", {}, "Predictions for a person"));
    if (!found.length)
      box.append(el("p", { className: "small" }, "None is stored for this video. `video-highlights predict MODEL FOLDER VIDEO_ID --user ID` keeps one here."));
    this.weightBars = [];
    for (const one of found) box.append(this.predictionCard(one));
    this.updateWeights(this.player.time());
  }
  predictionCard(one) {
    const kinds = [...new Set(one.history.flatMap((clip) => Object.keys(clip.weights)))];
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
    const size = (clip) => Math.max(0, ...Object.values(clip.weights).map(mean));
    const clips = [...one.history].sort((a, b) => size(b) - size(a));
    const most = Math.max(1e-12, ...one.history.flatMap((clip) => Object.values(clip.weights).flat()));
    const count = `${clips.length} liked ${clips.length === 1 ? "clip" : "clips"}`;
    const lead = kinds.length ? `${count} with their weight (${kinds.join(", ")}): mean over the segments, and of the segment at the cursor; bars from 0 to ${numberText(most)}` : count;
    return el("div", { className: "card" },
      el("h3", {}, el("bdi", {}, `for ${one.person || "no user"}, by ${one.model}`)), markList(one.notes),
      el("p", { className: "small" }, lead),
      el("div", { className: "clips" }, ...clips.map((clip) => this.clipCard(clip, one, kinds, mean, most))),
      el("p", { className: "small hash" }, `checkpoint ${one.checkpoint_sha256}`));
  }
  clipCard(clip, one, kinds, mean, most) {
    const picture = el("div", { className: "picture" });
    const still = clip.picture ? `data:image/jpeg;base64,${clip.picture}`
      : clip.has_picture ? this.source.pictureAddress(clip.video_id, (clip.start + clip.end) / 2) : null;
    if (still) picture.append(el("img", { src: still, alt: "", loading: "lazy" }));
    const media = clip.has_media ? this.source.mediaAddress(clip.video_id) : null;
    const page = this.source.pageAddress(clip.video_id);
    const id = page ? el("a", { href: page, className: "id" }, clip.video_id) : el("span", { className: "id" }, clip.video_id);
    const text = el("div", { className: "text" }, id, ` ${timeText(clip.start, 2)} to ${timeText(clip.end, 2)}`);
    for (const kind of kinds) {
      const values = clip.weights[kind] || [];
      text.append(this.weightBar(kinds.length > 1 ? `${kind}, mean` : "mean", mean(values), most));
      const now = this.weightBar(kinds.length > 1 ? `${kind}, here` : "here", 0, most);
      this.weightBars.push({ node: now, values, most, segments: one.segments });
      text.append(now);
    }
    if (media) text.append(this.clipButton(clip, picture, media));
    else text.append(el("p", { className: "small" }, "its video is not here"));
    return el("div", { className: "clip" }, picture, text);
  }
  weightBar(name, value, most) {
    const fill = el("div", { className: "fill" });
    const node = el("div", { className: "weight" }, el("span", {}, name), el("div", { className: "track" }, fill), el("span", { className: "value" }));
    this.setWeight(node, value, most);
    return node;
  }
  setWeight(node, value, most) {
    node.querySelector(".fill").style.width = value === null ? "0" : `${clamp(100 * value / most, 0, 100)}%`;
    node.querySelector(".value").textContent = value === null ? "–" : numberText(value);
  }
  updateWeights(t) {
    for (const { node, values, most, segments } of this.weightBars || []) {
      const row = segments.findIndex(({ start, end }) => start <= t && t < end);
      this.setWeight(node, row < 0 ? null : values[row], most);
    }
  }
  clipButton(clip, picture, address) {
    const button = el("button", { type: "button" }, "Play the clip");
    button.addEventListener("click", () => {
      const video = el("video", { muted: true, playsInline: true, preload: "auto" });
      video.addEventListener("timeupdate", () => { if (video.currentTime >= clip.end) video.pause(); });
      video.addEventListener("loadedmetadata", () => {
        video.currentTime = clip.start;
        video.play().catch(() => { /* replaced before it began */ });
      });
      video.src = address;
      picture.replaceChildren(video);
    });
    return button;
  }
  showVariants() {
    const rows = this.details.variants.map((one) => el("tr", {},
      el("td", { className: "id" }, one.name), el("td", {}, stateTag(one.state), one.detail ? el("div", { className: "small" }, one.detail) : null),
      el("td", {}, one.rows === null ? "–" : String(one.rows)), el("td", { className: "small" }, one.arrays.join("; ")),
      el("td", { className: "small" }, one.weights || "none")));
    const headings = ["variant", "state", "rows", "arrays", "weights"].map((text) => el("th", {}, text));
    byId("variants").append(el("h2", {}, "Variants"),
      el("div", { className: "table-scroll" }, el("table", { className: "plain" }, el("thead", {}, el("tr", {}, ...headings)), el("tbody", {}, ...rows))));
  }
}

// ---- start ----------------------------------------------------------------------------------

function addKeys(page) {
  const help = byId("help"), search = byId("q");
  if (!help) return;
  byId("help-button").addEventListener("click", () => help.showModal());
  document.addEventListener("keydown", (event) => {
    const isTyping = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && !["checkbox", "range"].includes(event.target.type);
    if (event.key === "Escape" && event.target === search) search.blur();
    if (isTyping || help.open || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "?") help.showModal();
    else if (event.key === "/" && search) search.focus();
    // A focused button or checkbox takes the space bar itself.
    else if (event.key === " " && ["BUTTON", "INPUT"].includes(event.target.tagName)) return;
    else if (event.target.type === "range" && event.key.startsWith("Arrow")) return;
    else if (!(page.key && page.key(event))) return;
    event.preventDefault();
  });
}

function start() {
  const { page, base, id } = document.body.dataset;
  const data = byId("data");
  const source = data ? new SingleFile(JSON.parse(data.textContent)) : new Server(base);
  if (page === "list") addKeys(new ListPage(source));
  if (page === "video") {
    const shown = new VideoPage(source, id);
    addKeys(shown);
    window.videoPage = shown;
  }
}

start();
