/**
 * Attention: all heads small, one head large, and the text, linked. The page holds the queries and
 * keys of the heads that were looked at last and works out every weight itself:
 * exp(query · key / √head_dim - log of the row's total). So hovering and zooming ask nobody.
 * Moving the pointer shows (a state of this page), a click keeps (a trait).
 *
 * @typedef Model
 * @property {number} layer        of the head shown large
 * @property {number} head         shown large
 * @property {number} token        selected token, -1 for none
 * @property {number[]} pins       tokens whose rows stay below the map
 * @property {number[]} zoom       [first row, end row, first column, end column], or empty
 * @property {"linear"|"log"|"row"} scale  of the colours
 * @property {"max"|"mean"} blocks  what a block of several tokens shows
 * @property {number} sink         so many first tokens stand apart
 * @property {"none"|"head"|"trace"} compare  show a difference
 * @property {number} other_layer  of the head that is subtracted
 * @property {number} other_head   that is subtracted
 * @property {boolean} running     whether a generation fills the view
 * @property {string} doing        what it does meanwhile, where a token takes long
 *
 * Messages to Python, besides those of all views: {kind: "want"}, {kind: "stop"},
 * {kind: "head", trace, layer, head}; trace 1 is the other one;
 * {kind: "thumbnails", layer, head, blocks, sink, difference}: from that head on.
 * Messages from Python:
 * {kind: "attention", model, other, shared, pieces, spans, turns, layers, heads, key_heads, error};
 * {kind: "head", trace, layer, head, tokens, half, size, sink} with query and key [token, head_dim]
 * (float16 if half, else float32), log totals [token] float32 and, of a text over 128 tokens, the
 * strongest and (if size is not 1) the mean weights of blocks of size × size tokens without the first
 * `sink`, lower triangle row by row, float16;
 * {kind: "more", pieces, span, turns, layer, head, start, half}: new tokens, and their query, key, log
 * totals in the head that is shown;
 * {kind: "thumbnails", layer, head, heads, tokens, size, every, …} with [head, cell] of the lower
 * triangle, 255 √weight, or signed 127 √difference.
 * `model` and `other` are names that tell two precisions of one model apart. The model of a saved page
 * also has holds(question): whether the page has its answer.
 */
import { css, luminance } from "../shared/colours.js";
import { button, element, named, refill, rootOf, tellGone } from "../shared/dom.js";
import { talk } from "../shared/talk.js";
import { copied, counted, limit, quoted } from "../shared/values.js";

const PATIENCE = 150; // milliseconds that the map of the last head stays while the next one comes
const KEPT = 48e6; // bytes of heads in memory
const CELLS = 512; // blocks along a side of the large map, at most
const THUMBNAIL = 48; // blocks along a side of a small one, at most
const LIST = 8; // tokens in a list
const DECADES = 4; // of the logarithmic scale
const RAMPS = {
  light: { row: ["f4f8fc", "bcd6ec", "6aaed6", "2b7bba", "08306b"], column: ["fdf6ee", "fdd5a5", "fdae6b", "e6660d", "7f2704"], difference: ["08306b", "4292c6", "b9d6ea", "f6f6f4", "fbc9a0", "e6660d", "7f2704"] },
  dark: { row: ["1d232a", "1e4066", "2b6ca3", "5ea9dd", "d3ecff"], column: ["29231c", "5c3a15", "a5631b", "f09a3e", "ffe3c2"], difference: ["d3ecff", "5ea9dd", "25577f", "24272b", "7d4c18", "f09a3e", "ffe3c2"] },
};
const OUTSIDE = "outside the part shown";
const NO_DIFFERENCE = "no difference: the other trace has other tokens";

// -- small tools --------------------------------------------------------------------------------------

const percent = (share) => {
  if (!Number.isFinite(share)) return "–";
  const size = Math.abs(100 * share);
  return `${(100 * share).toFixed(size === 0 || size >= 9.95 ? 1 : size >= 0.0995 ? 2 : 4)} %`;
};
const signed = (share) => (share > 0 ? `+${percent(share)}` : percent(share));

let halves = null; // value of every float16
function floats(view, half) {
  if (!half) return copied(view, Float32Array);
  if (!halves) {
    halves = new Float32Array(65536);
    for (let bits = 0; bits < 65536; bits++) {
      const power = (bits >> 10) & 31, fraction = bits & 1023;
      const size = power === 0 ? fraction * 2 ** -24 : power === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (power - 15);
      halves[bits] = bits & 32768 ? -size : size;
    }
  }
  const narrow = copied(view, Uint16Array), wide = new Float32Array(narrow.length);
  for (let n = 0; n < wide.length; n++) wide[n] = halves[narrow[n]];
  return wide;
}

/** One head: queries, already divided by √head_dim, keys, and the logarithm of every row's total. */
class Head {
  constructor(content, buffers) {
    this.query = floats(buffers[0], content.half);
    this.key = floats(buffers[1], content.half);
    this.logs = copied(buffers[2], Float32Array);
    this.tokens = this.logs.length;
    this.dim = this.tokens ? this.key.length / this.tokens : 0;
    this.divide(this.query);
    this.blocks = null; // the whole map as Python worked it out
    if (content.size) {
      const max = floats(buffers[3], true);
      this.blocks = { size: content.size, sink: content.sink, max, mean: content.size > 1 ? floats(buffers[4], true) : max };
    }
  }

  get bytes() { return 4 * (this.query.length + this.key.length + this.logs.length + (this.blocks ? (this.blocks.size > 1 ? 2 : 1) * this.blocks.max.length : 0)); }
  divide(query) { const root = Math.sqrt(this.dim); for (let n = 0; n < query.length; n++) query[n] /= root; }

  append({ half }, buffers) {
    const query = floats(buffers[0], half), joined = (old, more) => { const all = new Float32Array(old.length + more.length); all.set(old); all.set(more, old.length); return all; };
    this.divide(query);
    this.query = joined(this.query, query);
    this.key = joined(this.key, floats(buffers[1], half));
    this.logs = joined(this.logs, copied(buffers[2], Float32Array));
    this.tokens = this.logs.length;
    this.blocks = null;
  }

  weight(row, column) {
    if (column > row) return 0;
    const { query, key, dim } = this;
    let q = row * dim, k = column * dim, a = 0, b = 0, c = 0, d = 0;
    const end = q + dim - 3;
    for (; q < end; q += 4, k += 4) {
      a += query[q] * key[k];
      b += query[q + 1] * key[k + 1];
      c += query[q + 2] * key[k + 2];
      d += query[q + 3] * key[k + 3];
    }
    for (; q < end + 3; q++, k++) a += query[q] * key[k];
    return Math.exp(a + b + c + d - this.logs[row]);
  }
}

function render({ model, el }) {
  const root = rootOf(el, "pw-attention"), page = talk(model, () => tellGone(root));

  let data = null; // the text, as Python told it
  let allHeads = []; // number of every head of a layer
  let hover = null; // under the pointer: {row, column}, {row, apart: true}, {token} or {grid: [layer, head]}
  let theme = null;
  let tile = null; // the part of the map that is drawn
  let place = null; // geometry of the large map
  let drag = null; // rectangle that is drawn now
  const heads = new Map(); // key → Head, the last used at the end
  const absent = new Set(); // what a saved page does not hold
  let held = null; // in a saved page: the heads that can be looked at, as `key` calls them
  let thumbs = new Map(); // layer * heads + head → values
  let thumbInfo = null; // what Python said of the maps that came last

  // -- the page ---------------------------------------------------------------------------------------

  const title = element("span", "title"), about = element("span", "soft"), doing = element("span", "soft");
  const stop = element("button", "plain", "Stop");
  stop.addEventListener("click", () => page.send({ kind: "stop" }));
  const pick = (words, name, options, read = String, label = words) => {
    const select = element("select"), holder = element("label", "", `${words} `, select);
    select.setAttribute("aria-label", label);
    select.addEventListener("change", () => page.set({ [name]: read(select.value) }));
    const fill = (all) => { select.replaceChildren(...all.map(([value, text]) => new Option(text, value))); };
    if (options) fill(options);
    return { holder, select, fill, name };
  };
  const controls = {
    layer: pick("layer", "layer", null, Number), head: pick("head", "head", null, Number),
    scale: pick("colours", "scale", [["linear", "linear"], ["log", "logarithmic"], ["row", "per row"]]),
    blocks: pick("blocks show", "blocks", [["max", "strongest weight"], ["mean", "mean weight"]], String, "blocks show: what stands for the weights of several tokens"),
    compare: pick("minus", "compare", null, String, "minus: what is subtracted from the head’s weights"), other_layer: pick("layer", "other_layer", null, Number, "layer of the subtracted head"), other_head: pick("head", "other_head", null, Number, "subtracted head"),
  };
  const apart = element("input"), apartWords = element("span");
  apart.type = "checkbox";
  apart.addEventListener("change", () => page.set({ sink: apart.checked ? Math.max(1, usualSink) : 0 }));
  let usualSink = 1;
  const problem = element("div", "problem"), reading = element("div", "reading"), spoken = element("div", "spoken");
  spoken.setAttribute("aria-live", "polite");
  const grid = element("canvas", "heads"), gridNote = element("div", "soft small");
  const smaller = element("button", "plain", "−"), larger = element("button", "plain", "+");
  smaller.setAttribute("aria-label", "smaller maps of all heads");
  larger.setAttribute("aria-label", "larger maps of all heads");
  const map = element("canvas", "map"), over = element("canvas", "over"), missing = element("div", "absent problem");
  const stage = element("div", "stage", map, over, missing), pins = element("div", "pins");
  const scale = element("canvas"), low = element("span"), high = element("span"), scaleNote = element("span");
  const legend = element("div", "bar soft small", element("span", "scale", low, scale, high), scaleNote);
  const mapTitle = element("h4"), mapNote = element("span", "soft small"), whole = element("button", "plain", "whole map"), pinButton = element("button", "plain", "pin");
  whole.addEventListener("click", () => page.set({ zoom: [] }));
  pinButton.addEventListener("click", () => pin(selected()));
  const strip = element("div", "strip"), stripNote = element("div", "note soft small"), before = element("div"), after = element("div"), tables = element("div", "two", before, after);
  grid.tabIndex = map.tabIndex = strip.tabIndex = 0;
  grid.setAttribute("role", "img");
  grid.setAttribute("aria-label", "all heads, a row per layer; arrow keys choose a head");
  map.setAttribute("role", "img");
  map.setAttribute("aria-label", "attention of one head, rows attend to columns; arrow keys move the selected token, P pins it, plus and minus zoom, Escape shows the whole; the lists below say the same");
  strip.setAttribute("role", "listbox");
  strip.setAttribute("aria-label", "tokens; arrow keys move the selection, P pins");
  const left = element("div", "left", element("div", "bar", element("h4", "", "All heads"), smaller, larger), element("div", "all", grid), gridNote);
  const right = element("div", "right", element("div", "bar", mapTitle, whole, pinButton), element("div", "bar", mapNote), stage, pins, legend);
  root.append(
    element("div", "bar", title, about, doing, stop),
    element("div", "bar", controls.layer.holder, controls.head.holder, controls.scale.holder, controls.blocks.holder, element("label", "", apart, " ", apartWords), controls.compare.holder, controls.other_layer.holder, controls.other_head.holder),
    problem, reading, spoken,
    element("section", "", element("div", "panes", left, right)),
    element("section", "", element("h4", "", "Text"), strip, stripNote, tables), // a note of more lines must not move the text under the pointer
  );

  // -- what is shown ----------------------------------------------------------------------------------

  const selected = () => limit(model.get("token"), -1, data.count - 1);
  const pointed = () => hover?.token ?? hover?.row ?? -1;
  const focus = () => (pointed() >= 0 ? pointed() : selected());
  const comparing = () => model.get("compare") !== "none";
  const sink = () => Math.min(model.get("sink"), data.count);
  const key = (trace, layer, head) => `${trace}/${layer}/${head}`;
  const mine = () => key(0, model.get("layer"), model.get("head"));
  const theirs = () => (model.get("compare") === "head" ? key(0, model.get("other_layer"), model.get("other_head")) : key(1, model.get("layer"), model.get("head")));
  /** Whether a head of this trace can be looked at: everywhere all can, but in a saved page. */
  const canOpen = (layer, head) => !held || (held.has(key(0, layer, head)) && (model.get("compare") !== "trace" || held.has(key(1, layer, head))));
  const found = (name) => { const head = heads.get(name); return head && head.tokens >= (name[0] === "1" ? data.shared : data.count) ? head : null; };
  /** The head that is shown and the one that is subtracted, when they are here. */
  function both() {
    const one = found(mine()), other = comparing() ? found(theirs()) : null;
    return one && (!comparing() || other) ? { one, other, rows: other ? Math.min(one.tokens, other.tokens) : one.tokens } : null;
  }
  const withoutDifference = () => focus() >= (both()?.rows ?? Infinity); // a token that the other trace has not
  const value = (pair, row, column) => (row >= pair.rows ? NaN : pair.other ? pair.one.weight(row, column) - pair.other.weight(row, column) : pair.one.weight(row, column));
  function rowOf(pair, row) {
    const result = new Float32Array(data.count);
    for (let column = 0; column <= row; column++) result[column] = value(pair, row, column);
    return result;
  }
  function columnOf(pair, column) {
    const result = new Float32Array(data.count);
    for (let row = column; row < data.count; row++) result[row] = value(pair, row, column);
    return result;
  }
  const region = () => { const zoom = model.get("zoom"); return zoom.length === 4 && zoom[1] <= data.count && zoom[3] <= data.count ? zoom : [0, data.count, 0, data.count]; };

  // -- asking -----------------------------------------------------------------------------------------

  let asked = null, patience = 0; // the head that Python works at, and until when it is waited for
  let askedThumbs = null; // the small maps that Python works at, as `named` calls them
  function ask() {
    if (!data?.count) return;
    for (const name of comparing() ? [mine(), theirs()] : [mine()]) {
      if (found(name) || absent.has(name) || asked) continue;
      const [trace, layer, head] = name.split("/").map(Number);
      asked = name;
      patience = performance.now() + PATIENCE;
      setTimeout(() => { if (asked === name) schedule("map"); }, PATIENCE);
      page.send({ kind: "head", trace, layer, head });
    }
    askForThumbs();
  }
  const settingsOf = ({ blocks, sink, difference }) => `${blocks} ${sink} ${difference}`;
  const named = (maps) => `${maps.layer}/${maps.head} ${settingsOf(maps)}`;
  const noRound = { wanted: "", count: 0, absent: false };
  let round = noRound; // of small maps: their settings, the length of the text at its last answer, whether this page has none
  let missingThumbs = new Set(); // "layer/head" to ask from
  function askForThumbs() {
    const settings = { blocks: model.get("blocks"), sink: model.get("sink"), difference: model.get("compare") === "trace" }, wanted = settingsOf(settings);
    const grown = round.count && (data.count >= 1.25 * round.count || (!model.get("running") && data.count > round.count));
    if (wanted !== round.wanted || (grown && !askedThumbs)) {
      round = { ...noRound, wanted };
      missingThumbs = new Set(data.layers.map((layer) => `${layer}/0`));
    }
    if (askedThumbs || asked || !missingThumbs.size) return;
    const near = (name) => Math.abs(name.split("/")[0] - model.get("layer"));
    const next = [...missingThumbs].reduce((best, name) => (near(name) < near(best) ? name : best));
    const [layer, head] = next.split("/").map(Number);
    missingThumbs.delete(next);
    askedThumbs = named({ layer, head, ...settings });
    page.send({ kind: "thumbnails", layer, head, ...settings });
  }
  function store(name, head) {
    heads.delete(name);
    heads.set(name, head);
    let bytes = 0;
    for (const kept of heads.values()) bytes += kept.bytes;
    for (const [old, kept] of heads) {
      if (bytes <= KEPT) break;
      if (old === mine() || (comparing() && old === theirs())) continue;
      heads.delete(old);
      bytes -= kept.bytes;
    }
    root.dataset.heads = heads.size;
    root.dataset.bytes = bytes;
  }

  // -- colours ----------------------------------------------------------------------------------------

  function readTheme() {
    const probe = getComputedStyle(root), numbers = (text) => (text.match(/[\d.]+/g) || [0, 0, 0]).slice(0, 3).map(Number);
    const ink = numbers(probe.color), paper = numbers(probe.backgroundColor), dark = luminance(paper) < 0.5;
    const table = (hexes) => {
      const stops = hexes.map((hex) => [0, 2, 4].map((c) => parseInt(hex.slice(c, c + 2), 16)));
      const rgb = Array.from({ length: 256 }, (_, n) => {
        const x = (n / 255) * (stops.length - 1), from = Math.min(stops.length - 2, Math.floor(x));
        return stops[from].map((part, c) => Math.round(part + (x - from) * (stops[from + 1][c] - part)));
      });
      return { css: rgb.map(css), ink: rgb.map((colour) => (luminance(colour) > 0.5 ? "#000" : "#fff")), words: Uint32Array.from(rgb, ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0) };
    };
    const colour = (name) => { const probe = element("span"); probe.style.color = `var(${name})`; root.append(probe); const result = getComputedStyle(probe).color; probe.remove(); return result; };
    const ramps = RAMPS[dark ? "dark" : "light"];
    theme = { ink: css(ink), paper: css(paper), soft: colour("--soft"), line: colour("--line"), mark: colour("--mark"), row: table(ramps.row), column: table(ramps.column), difference: table(ramps.difference) };
  }
  /** 0 … 255, the step of a colour: a share of `top` on the chosen scale; around 128 for differences. */
  function step(value, top, difference, how) {
    if (!(top > 0) || !Number.isFinite(value)) return difference ? 128 : 0;
    let share = Math.min(1, Math.abs(value) / top);
    if (how === "log") share = share > 0 ? Math.max(0, 1 + Math.log10(share) / DECADES) : 0;
    return difference ? limit(Math.round(127.5 + Math.sign(value) * 127.5 * share), 0, 255) : Math.round(255 * share);
  }
  function pen(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1, context = canvas.getContext("2d");
    if (canvas.width === Math.round(width * ratio) && canvas.height === Math.round(height * ratio)) context.reset();
    else {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    context.scale(ratio, ratio);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    return context;
  }

  // -- all heads --------------------------------------------------------------------------------------

  let zoomed = 1; // of the small maps
  let boxes = { cell: 30, label: 48, gap: 6, top: 30 };
  const headLeft = (head) => boxes.label + head * boxes.cell + Math.floor(head / (data.heads / data.key_heads)) * boxes.gap;
  function measureGrid(width) {
    const gap = data.key_heads < data.heads ? 7 : 0, label = 52;
    const room = width < 760 ? width : Math.floor(width * 0.5);
    const fit = Math.min(72, Math.floor((room - label - gap * data.key_heads) / data.heads), Math.floor(580 / data.layers.length));
    boxes = { cell: limit(Math.round(Math.max(10, fit) * zoomed), 8, 160), label, gap, top: gap ? 34 : 20 };
    return limit(label + gap * data.key_heads + data.heads * boxes.cell + 4, 160, room);
  }
  let atlas = null; // one canvas of all small maps, a pixel per block
  function paintThumb(index) {
    const values = thumbs.get(index), n = values.side, image = new ImageData(n, n), words = new Uint32Array(image.data.buffer), how = model.get("scale");
    const difference = values instanceof Int8Array, table = (difference ? theme.difference : theme.row).words, full = difference ? 127 : 255;
    let at = 0, top = 0;
    const row = new Float32Array(n);
    for (let r = 0; r < n; r++) for (let c = 0; c <= r; c++) { const size = Math.abs(values[at++]); row[r] = Math.max(row[r], size); top = Math.max(top, size); }
    at = 0;
    for (let r = 0; r < n; r++) for (let c = 0; c <= r; c++) {
      const root = values[at++] / full, most = (how === "row" ? row[r] : top) / full;
      words[r * n + c] = table[step(root * Math.abs(root), most * most, difference, how)];
    }
    const x = (index % data.heads) * THUMBNAIL, y = data.layers.indexOf(Math.floor(index / data.heads)) * THUMBNAIL;
    const context = atlas.getContext("2d");
    context.clearRect(x, y, THUMBNAIL, THUMBNAIL);
    context.putImageData(image, x, y);
  }
  function paintThumbs() {
    atlas = new OffscreenCanvas(data.heads * THUMBNAIL, data.layers.length * THUMBNAIL);
    for (const index of thumbs.keys()) paintThumb(index);
  }
  function drawGrid() {
    const { cell, label, gap, top } = boxes, group = data.heads / data.key_heads;
    const width = headLeft(data.heads - 1) + cell + 4, height = top + data.layers.length * cell + 4;
    const context = pen(grid, width, height), every = Math.max(1, Math.ceil(15 / cell)), across = Math.max(1, Math.ceil(18 / cell));
    context.fillStyle = theme.soft;
    context.textAlign = "center";
    for (let head = 0; head < data.heads; head++) if (head % across === 0) context.fillText(head, headLeft(head) + cell / 2, top - 8);
    if (gap)
      for (let shared = 0; shared < data.key_heads; shared++) {
        const from = headLeft(shared * group), to = headLeft(shared * group + group - 1) + cell;
        context.fillRect(from + 1, 15, to - from - 3, 1.5);
        context.fillText(to - from > 78 ? `key–value head ${shared}` : to - from > 34 ? `kv ${shared}` : shared, (from + to) / 2, 7);
      }
    context.textAlign = "left";
    data.layers.forEach((layer, row) => { if (row % every === 0) context.fillText(`layer ${layer}`, 0, top + (row + 0.5) * cell); });
    const inset = cell > 20 ? 1.5 : 0.5;
    data.layers.forEach((layer, row) => {
      for (let head = 0; head < data.heads; head++) {
        const index = layer * data.heads + head, n = thumbs.get(index)?.side, x = headLeft(head) + inset, y = top + row * cell + inset, size = cell - 2 * inset;
        context.strokeStyle = theme.line;
        context.lineWidth = 1;
        if (cell > 20 || !n) context.strokeRect(x, y, size, size);
        if (!n) continue;
        context.imageSmoothingEnabled = n > size;
        context.drawImage(atlas, head * THUMBNAIL, row * THUMBNAIL, n, n, x, y, size, size);
        if (canOpen(layer, head)) continue;
        context.fillStyle = theme.paper;
        context.globalAlpha = 0.75;
        context.fillRect(x, y, size, size);
        context.globalAlpha = 1;
      }
    });
    const frame = (layer, head, dash, colour) => {
      context.strokeStyle = colour;
      context.lineWidth = 2.5;
      context.setLineDash(dash);
      context.strokeRect(headLeft(head) - 0.25, top + data.layers.indexOf(layer) * cell - 0.25, cell + 0.5, cell + 0.5);
    };
    if (model.get("compare") === "head") frame(model.get("other_layer"), model.get("other_head"), [4, 3], theme.ink);
    frame(model.get("layer"), model.get("head"), [], theme.mark);
    const words = [];
    if (held && data.layers.some((layer) => allHeads.some((head) => !canOpen(layer, head)))) words.push("this page holds no large map of the faded ones");
    if (round.absent) words.push(thumbInfo ? "this saved page holds no small maps for these settings; those here are as it was saved" : "this saved page holds no small maps");
    if (thumbInfo) {
      if (thumbInfo.size > 1) words.push(`a point is the ${thumbInfo.blocks === "max" ? "strongest" : "mean"} weight of ${thumbInfo.size} × ${thumbInfo.size} tokens`);
      if (thumbInfo.every > 1) words.push(`one query token in ${thumbInfo.every} is looked at`);
      if (thumbInfo.sink) words.push(thumbInfo.sink === 1 ? "without the first token" : `without the first ${thumbInfo.sink} tokens`);
      words.push("each map has colours of its own");
      if (thumbInfo.difference) words.push(`minus the same head of ${data.other}`);
    }
    gridNote.textContent = words.join("; ");
    gridNote.classList.toggle("problem", round.absent);
    gridNote.style.maxWidth = `${Math.max(220, Math.min(width, room.left || width))}px`;
    grid.dataset.geometry = JSON.stringify({ ...boxes, group });
    root.dataset.thumbnails = thumbs.size;
  }

  // -- the large map ----------------------------------------------------------------------------------

  function measureMap() {
    const [r0, r1, c0, c1] = region(), rows = r1 - r0, columns = c1 - c0;
    const width = room.right || 520;
    const context = map.getContext("2d");
    context.font = "11px monospace";
    const widest = (from, to) => { let most = 0; for (let t = from; t < to; t++) most = Math.max(most, context.measureText(shownPiece(t)).width); return Math.ceil(Math.min(110, most)); };
    const band = 7, profile = 46, strip = sink() ? 15 : 0, gap = sink() ? 5 : 0;
    const guess = limit(width - 150, 180, 560), rowWords = guess / rows >= 11, columnWords = guess / columns >= 11;
    const below = columnWords ? widest(c0, c1) + 8 : 18, free = width - strip - gap - profile - 22;
    const least = 76 - strip - gap; // for the words on the left of the bars, and for pins
    const labelOf = (from, to, words) => Math.max(least, (words ? widest(from, to) : 30) + 8 + band);
    // A part is as large as the whole: words of its rows get what room is left, and are drawn narrower.
    const side = limit(Math.min(free - labelOf(0, data.count, guess / data.count >= 11), Math.max(300, 26 * data.count)), 160, 600);
    const label = Math.max(least, Math.min(labelOf(r0, r1, rowWords), free - side));
    place = { x: label + strip + gap, y: 28 + band, side, strip, gap, band, label, below, profile, rows, columns, r0, c0, rowWords, columnWords, width: label + strip + gap + side + profile + 20, height: 28 + band + side + below + profile + 4 };
  }
  const shownPiece = (token) => (data.pieces[token] === "<0x0A>" ? "⏎" : data.pieces[token].replaceAll(" ", "␣").replaceAll("\n", "⏎"));
  const X = (token) => place.x + ((token - place.c0) / place.columns) * place.side;
  const Y = (token) => place.y + ((token - place.r0) / place.rows) * place.side;

  /** The part of the map on screen in blocks; worked out in slices so that nobody waits. */
  function makeTile() {
    const pair = both();
    if (!pair) { tile = null; return; }
    const [r0, r1, c0, c1] = region(), skip = sink();
    const size = Math.max(1, Math.ceil(Math.max(r1 - r0, c1 - c0) / CELLS));
    const name = [mine(), comparing() ? theirs() : "", r0, r1, c0, c1, skip, data.count].join(" ");
    if (tile?.name === name) return;
    const nr = Math.ceil((r1 - r0) / size), nc = Math.ceil((c1 - c0) / size);
    const entire = r1 - r0 === data.count && c1 - c0 === data.count, shown = [mine(), comparing() ? theirs() : "", skip].join(" "), base = `${shown} ${size}`;
    const before = tile, under = before?.shown === shown ? (before.done === before.nr ? before : before.under) : null;
    tile = { name, shown, base, entire, under, picture: null, pair, r0, r1, c0, c1, size, nr, nc, skip, max: new Float32Array(nr * nc), mean: new Float32Array(nr * nc), apart: new Float32Array(nr), done: 0, tops: {} };
    if (entire && before?.entire && before.base === base && before.r1 <= r1) {
      // The text has grown: what its earlier tokens attend to stays.
      tile.done = Math.min(before.done, Math.floor(before.r1 / size));
      for (const kind of ["max", "mean"]) for (let row = 0; row < tile.done; row++) tile[kind].set(before[kind].subarray(row * before.nc, (row + 1) * before.nc), row * nc);
      tile.apart.set(before.apart.subarray(0, tile.done));
    }
    const blocks = pair.one.blocks;
    if (blocks && !pair.other && blocks.size === size && blocks.sink === skip && entire && tile.done < nr) {
      let at = 0;
      for (let row = 0; row < nr; row++) for (let column = 0; column <= row; column++, at++) {
        tile.max[row * nc + column] = blocks.max[at];
        tile.mean[row * nc + column] = blocks.mean[at];
      }
      for (let row = 0; row < nr; row++) apartOf(row);
      tile.done = nr;
    }
    work(tile, under ? 8 : 45);
  }
  function apartOf(block) {
    const { pair, r0, r1, size, skip } = tile;
    let sum = 0, count = 0;
    for (let row = r0 + block * size; row < Math.min(r1, pair.rows, r0 + (block + 1) * size); row++, count++) for (let column = 0; column < Math.min(skip, row + 1); column++) sum += value(pair, row, column);
    tile.apart[block] = count ? sum / count : NaN; // the other trace has no such rows
  }
  function work(current, budget) {
    if (tile !== current) return;
    const { pair, r0, r1, c0, c1, size, nc, skip, max, mean } = current, began = performance.now();
    while (current.done < current.nr && performance.now() - began < budget) {
      const block = current.done, counts = new Uint32Array(nc);
      for (let row = r0 + block * size; row < Math.min(r1, pair.rows, r0 + (block + 1) * size); row++) {
        for (let column = Math.max(c0, skip); column < Math.min(c1, row + 1); column++) {
          const weight = value(pair, row, column), cell = Math.floor((column - c0) / size), at = block * nc + cell;
          if (!counts[cell] || Math.abs(weight) > Math.abs(max[at])) max[at] = weight;
          mean[at] += weight;
          counts[cell]++;
        }
      }
      for (let cell = 0, at = block * nc; cell < nc; cell++, at++) {
        if (counts[cell]) mean[at] /= counts[cell];
        else max[at] = mean[at] = NaN;
      }
      apartOf(block);
      current.done++;
    }
    if (current.done < current.nr) {
      setTimeout(() => { work(current, 8); if (tile === current && (current.done === current.nr || performance.now() - drawn > 120)) drawMap(); });
    }
    else current.under = null;
    root.dataset.tile = current.done === current.nr ? "done" : "working";
  }
  /** Strongest value of the tile, and of each of its rows. */
  function topsOf(kind) {
    if (tile.tops[kind]?.done === tile.done) return tile.tops[kind];
    const rows = new Float32Array(tile.nr), values = tile[kind];
    let top = 0;
    for (let row = 0; row < tile.nr; row++) {
      for (let column = 0; column < tile.nc; column++) { const size = Math.abs(values[row * tile.nc + column]); if (size > rows[row]) rows[row] = size; }
      if (rows[row] > top) top = rows[row];
    }
    return (tile.tops[kind] = { rows, top, done: tile.done });
  }

  let drawn = 0;
  function drawMap() {
    const context = pen(map, place.width, place.height), { x, y, side } = place;
    pen(over, place.width, place.height);
    drawn = performance.now();
    const [r0, r1, c0, c1] = region(), difference = comparing(), how = model.get("scale"), kind = model.get("blocks");
    const here = tile !== null;
    const [trace, layer, head] = [mine(), ...(difference ? [theirs()] : [])].find((name) => absent.has(name))?.split("/") ?? [];
    missing.hidden = here || !trace;
    Object.assign(missing.style, { left: `${x + 12}px`, top: `${y + 12}px`, maxWidth: `${side - 50}px` });
    missing.textContent = missing.hidden ? "" : `This saved page does not hold layer ${layer}, head ${head}${trace === "1" ? ` of ${data.other}` : ""}. Its maker chose what it holds: to_html(layers=…, heads=…).`;
    let top = 0;
    if (here) {
      const tops = topsOf(kind), { nr, nc, size } = tile, values = tile[kind];
      top = tops.top;
      const image = new ImageData(nc, nr), words = new Uint32Array(image.data.buffer), table = (difference ? theme.difference : theme.row).words;
      for (let row = 0; row < tile.done; row++) {
        const last = Math.min(r1, r0 + (row + 1) * size) - 1, most = how === "row" ? tops.rows[row] : top;
        const plain = most > 0 && !difference && how !== "log" ? 255 / most : 0; // as `step`, without its questions for every point
        for (let column = Math.max(0, Math.floor((tile.skip - c0) / size)), end = Math.min(nc, Math.floor((last - c0) / size) + 1); column < end; column++) {
          const value = values[row * nc + column];
          if (!Number.isNaN(value)) words[row * nc + column] = table[plain ? (value * plain + 0.5) | 0 : step(value, most, difference, how)];
        }
      }
      tile.picture = new OffscreenCanvas(nc, nr);
      tile.picture.getContext("2d").putImageData(image, 0, 0);
      context.imageSmoothingEnabled = Math.max(nr, nc) > side * (window.devicePixelRatio || 1);
      context.save();
      context.beginPath();
      context.rect(x, y, side, side);
      context.clip();
      for (const part of [tile.under, tile]) { // what was shown before stands in for rows that are still to come
        if (part) context.drawImage(part.picture, X(part.c0), Y(part.r0), X(part.c0 + part.nc * part.size) - X(part.c0), Y(part.r0 + part.nr * part.size) - Y(part.r0));
      }
      context.restore();
      if (place.strip) {
        const shades = difference ? theme.difference : theme.column;
        for (let row = 0; row < tile.done; row++) {
          if (Number.isNaN(tile.apart[row])) continue;
          context.fillStyle = shades.css[difference ? step(tile.apart[row], 1, true, "linear") : Math.round(255 * limit(tile.apart[row], 0, 1))];
          const from = Y(r0 + row * size), to = Math.min(y + side, Y(r0 + (row + 1) * size));
          context.fillRect(place.label, from, place.strip, Math.max(to - from, 0.6));
        }
      }
    }
    context.strokeStyle = theme.line;
    context.lineWidth = 1;
    context.strokeRect(x - 0.5, y - 0.5, side + 1, side + 1);
    if (place.strip) context.strokeRect(place.label - 0.5, y - 0.5, place.strip + 1, side + 1);
    drawBorders(context, r0, r1, c0, c1);
    drawWords(context, r0, r1, c0, c1);
    drawLegend(top, difference, how);
    map.dataset.geometry = JSON.stringify({ ...place, top, size: tile?.size ?? 1 });
    root.dataset.shown = here ? `${model.get("layer")}/${model.get("head")}` : "";
    drawOver();
    drawPins();
  }
  const SPAN_COLOUR = { prompt: "#8a8f98", thinking: "#a35dc9", answer: "#2f9e6e" };
  function drawBorders(context, r0, r1, c0, c1) {
    const { x, y, side, band } = place;
    for (const span of data.spans) {
      context.fillStyle = SPAN_COLOUR[span.kind] ?? theme.soft;
      const rows = [Math.max(span.start, r0), Math.min(span.end, r1)], columns = [Math.max(span.start, c0), Math.min(span.end, c1)];
      if (rows[1] > rows[0]) context.fillRect(0, Y(rows[0]), band - 2, Y(rows[1]) - Y(rows[0]) - 1);
      if (columns[1] > columns[0]) {
        const from = X(columns[0]), to = X(columns[1]);
        context.fillRect(from, y - band - 1, to - from - 1, band - 2);
        context.textAlign = "left";
        if (context.measureText(span.kind).width < to - from) context.fillText(span.kind, from, y - band - 9);
      }
    }
    const line = (token, dash) => {
      context.setLineDash(dash);
      context.strokeStyle = theme.ink;
      context.globalAlpha = dash.length ? 0.45 : 0.8;
      context.beginPath();
      if (token > r0 && token < r1) { context.moveTo(place.strip ? place.label : x, Math.round(Y(token)) - 0.5); context.lineTo(x + side, Math.round(Y(token)) - 0.5); }
      if (token > c0 && token < c1) { context.moveTo(Math.round(X(token)) - 0.5, y); context.lineTo(Math.round(X(token)) - 0.5, y + side); }
      context.stroke();
      context.globalAlpha = 1;
      context.setLineDash([]);
    };
    for (const span of data.spans) line(span.start, []);
    for (const turn of data.turns) line(turn, [2, 3]);
  }
  function drawWords(context, r0, r1, c0, c1) {
    const { x, y, side, label, strip } = place, ticks = (from, to) => { const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((n) => (to - from) / n <= 8) ?? 10000; const all = []; for (let t = Math.ceil(from / every) * every; t < to; t += every) all.push(t); return all; };
    context.fillStyle = theme.ink;
    context.textAlign = "right";
    context.save();
    context.beginPath();
    context.rect(place.band, 0, label - place.band, place.height);
    context.clip();
    if (place.rowWords) { context.font = "11px monospace"; for (let t = r0; t < r1; t++) context.fillText(shownPiece(t), label - 4, (Y(t) + Y(t + 1)) / 2, label - 6 - place.band); }
    else for (const t of ticks(r0, r1)) context.fillText(t, label - 4, Math.max(y + 5, (Y(t) + Y(t + 1)) / 2));
    context.restore();
    context.font = place.columnWords ? "11px monospace" : "11px system-ui, sans-serif";
    if (place.columnWords)
      for (let t = c0; t < c1; t++) {
        context.save();
        context.translate((X(t) + X(t + 1)) / 2, y + side + 4);
        context.rotate(-Math.PI / 2);
        context.textAlign = "right";
        context.fillText(shownPiece(t), 0, 0);
        context.restore();
      }
    else { context.textAlign = "center"; for (const t of ticks(c0, c1)) context.fillText(t, (X(t) + X(t + 1)) / 2, y + side + 9); }
    context.font = "11px system-ui, sans-serif";
    if (strip) { context.fillStyle = theme.soft; context.textAlign = "right"; context.fillText(sink() === 1 ? "first token" : `first ${sink()}`, label + strip - 1, y - 6); }
  }
  function drawLegend(top, difference, how) {
    const context = pen(scale, 110, 10), table = difference ? theme.difference : theme.row;
    for (let n = 0; n < 110; n++) { context.fillStyle = table.css[Math.round((n / 109) * 255)]; context.fillRect(n, 0, 1, 10); }
    low.textContent = how === "row" ? (difference ? "− row’s largest" : "0") : difference ? signed(-top) : how === "log" ? percent(top / 10 ** DECADES) : "0";
    high.textContent = how === "row" ? (difference ? "+ row’s largest" : "strongest of the row") : difference ? signed(top) : percent(top);
    const words = [];
    if (how === "log") words.push("logarithmic" + (difference ? " on both sides" : ""));
    if (sink()) words.push(`column on the left: what the first ${sink() === 1 ? "token gets" : `${sink()} tokens get`}, ${difference ? "−100 to +100 %" : "0 to 100 %"}`);
    if (data.spans.length > 1) words.push("solid lines: borders of prompt, thinking and answer");
    if (data.turns.some((turn) => turn > 0)) words.push("dotted lines: a turn begins");
    scaleNote.textContent = words.join("; ");
    const { r0, r1, c0, c1, size } = tile ?? { size: 1 }, part = tile && (r1 - r0 < data.count || c1 - c0 < data.count);
    const parts = ["a row attends to its columns"];
    if (part) parts[0] = `rows ${r0} to ${r1 - 1} attend to columns ${c0} to ${c1 - 1}`;
    if (size > 1) parts.push(`a point is the ${model.get("blocks") === "max" ? (difference ? "largest difference" : "strongest weight") : "mean"} of ${size} × ${size} tokens`);
    if (tile && tile.done < tile.nr) parts.push("working …");
    parts.push("drag to zoom, click to select, Shift and click to pin");
    mapNote.textContent = parts.join("; ");
    whole.hidden = !part;
  }

  // -- what changes with the pointer --------------------------------------------------------------------

  let shownRow = null, shownColumn = null, shownFor = "";
  function profiles() {
    const pair = both(), token = focus(), name = `${tile?.name} ${token}`;
    if (!pair || token < 0 || token >= pair.rows) { shownRow = shownColumn = null; shownFor = ""; return; }
    if (shownFor === name && shownRow) return;
    shownFor = name;
    shownRow = rowOf(pair, token);
    shownColumn = columnOf(pair, token);
    shownColumn[token] = 0; // its own weight is in its row
  }
  const withoutSink = (values) => values.slice().fill(0, 0, sink()); // it has a column of its own
  const strongest = (values, from, to) => { let top = 0; for (let n = from; n < to; n++) { const size = Math.abs(values[n]); if (size > top) top = size; } return top; };
  function bars(context, values, from, to, across, span, size, top, colour, difference) {
    // One bar per token, or per pixel where tokens are narrower: the strongest of them.
    const count = to - from, steps = Math.min(count, Math.round(span)), shades = difference ? theme.difference.css : null;
    for (let n = 0; n < steps; n++) {
      const a = from + Math.floor((n * count) / steps), b = Math.max(a + 1, from + Math.floor(((n + 1) * count) / steps));
      let best = 0;
      for (let t = a; t < b; t++) if (Math.abs(values[t]) > Math.abs(best)) best = values[t];
      const length = top ? Math.min(1, Math.abs(best) / top) * size : 0;
      if (length < 0.3) continue;
      context.fillStyle = shades ? shades[best < 0 ? 50 : 205] : colour;
      across((n * span) / steps, Math.max(1, span / steps - (span / steps > 4 ? 1 : 0)), length);
    }
  }
  function drawOver() {
    const context = over.getContext("2d"), ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, over.width, over.height);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    profiles();
    const { x, y, side, below, profile } = place, [r0, r1, c0, c1] = region(), token = focus(), difference = comparing(), skip = sink();
    const base = y + side + below;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    if (shownRow) {
      const rowTop = strongest(shownRow, skip, token + 1), columnTop = strongest(shownColumn, token + 1, data.count);
      bars(context, withoutSink(shownRow), c0, c1, (at, wide, length) => context.fillRect(x + at, base + profile - length, wide, length), side, profile - 4, rowTop, theme.row.css[165], difference);
      bars(context, shownColumn, r0, r1, (at, wide, length) => context.fillRect(x + side + 5, y + at, length, wide), side, profile - 4, columnTop, theme.column.css[165], difference);
      context.fillStyle = theme.soft;
      context.fillRect(x, base + profile, side, 1);
      context.fillRect(x + side + 4, y, 1, side);
      context.textAlign = "right";
      context.fillText("attends to", x - 5, base + profile - 20);
      context.fillText(`top ${percent(rowTop)}`, x - 5, base + profile - 6);
      if (token + 1 < data.count) {
        context.fillText("attended by", place.width, y - 28);
        context.fillText(`top ${percent(columnTop)}`, place.width, y - 16);
      }
      context.textAlign = "center";
      if (token >= skip && Math.max(c0, skip) >= Math.min(c1, token + 1)) context.fillText(OUTSIDE, x + side / 2, base + profile - 13);
      const later = token + 1 === data.count ? "no later token" : token + 1 >= r1 ? OUTSIDE : "";
      if (later) {
        context.save();
        context.translate(x + side + 5 + profile / 2, y + side / 2);
        context.rotate(-Math.PI / 2);
        context.fillText(later, 0, 0);
        context.restore();
      }
    } else if (withoutDifference()) {
      context.fillStyle = theme.soft;
      context.textAlign = "left";
      context.fillText(NO_DIFFERENCE, x, base + profile - 13);
    }
    const edge = (token, rows, columns, colour, width) => {
      context.strokeStyle = colour;
      context.lineWidth = width;
      if (rows && token >= r0 && token < r1) context.strokeRect(x - 1, Y(token) - 0.5, side + 2, Math.max(2, side / place.rows + 1));
      if (columns && token >= c0 && token < c1) context.strokeRect(X(token) - 0.5, y - 1, Math.max(2, side / place.columns + 1), side + 2);
    };
    for (const pinned of model.get("pins")) {
      if (pinned < r0 || pinned >= r1) continue;
      context.fillStyle = theme.mark;
      context.beginPath();
      context.arc(x + side + 2, (Y(pinned) + Y(pinned + 1)) / 2, 3, 0, 7);
      context.fill();
    }
    if (selected() >= 0) edge(selected(), true, false, theme.mark, 1.5);
    if (pointed() >= 0) edge(pointed(), true, false, theme.ink, 1);
    edge(hover?.token ?? hover?.column ?? -1, false, true, theme.ink, 1);
    if (drag?.to) {
      context.strokeStyle = theme.ink;
      context.lineWidth = 1.5;
      context.setLineDash([4, 3]);
      const [ax, ay, bx, by] = [drag.from[0], drag.from[1], drag.to[0], drag.to[1]].map((v, n) => limit(v, n % 2 ? y : x, (n % 2 ? y : x) + side));
      context.strokeRect(Math.min(ax, bx), Math.min(ay, by), Math.abs(ax - bx), Math.abs(ay - by));
      context.setLineDash([]);
    }
    root.dataset.focus = token;
  }
  function drawPins() {
    const pair = both(), list = model.get("pins").filter((pin) => pin < data.count), [, , c0, c1] = region();
    refill(pins, map, ...list.map((token) => {
      const drop = element("button", "drop", "×"), name = element("button", "", `${token} ${shownPiece(token)}`), canvas = element("canvas");
      drop.setAttribute("aria-label", `unpin token ${token}`);
      drop.addEventListener("click", () => pin(token));
      name.addEventListener("click", () => choose(token));
      const head = element("span", "", name, drop);
      head.style.width = `${place.x}px`;
      const context = pen(canvas, place.side, 24);
      if (pair) {
        const values = rowOf(pair, token), top = strongest(values, sink(), token + 1);
        bars(context, withoutSink(values), c0, c1, (at, wide, length) => context.fillRect(at, 24 - length, wide, length), place.side, 20, top, theme.row.css[165], comparing());
        canvas.title = token < pair.rows ? `token ${token} attends to; highest bar ${percent(top)}` : NO_DIFFERENCE;
      }
      context.fillStyle = theme.line;
      context.fillRect(0, 23, place.side, 1);
      return element("div", "pin", head, canvas);
    }));
  }

  // -- the text -----------------------------------------------------------------------------------------

  let nodes = [], tops = null, stripHeight = 0, scrolled = 0;
  function nodeOf(token) {
    const piece = data.pieces[token], node = element("span", `token ${data.kinds[token]}`, piece);
    if (/^(<.+>|\[unused\d+\])$/.test(piece)) node.classList.add("special");
    node.setAttribute("role", "option");
    node.shade = "";
    node.number = token;
    return node;
  }
  function buildStrip(from = 0) {
    if (!from) { strip.replaceChildren(); nodes = []; }
    const parts = [];
    for (let token = from; token < data.count; token++) {
      const node = nodeOf(token);
      nodes.push(node);
      parts.push(node);
      if (data.pieces[token] === "<0x0A>") parts.push(element("br"));
    }
    strip.append(...parts);
    tops = null;
    stripHeight = 0;
  }
  /** Only tokens on screen are shaded: a long text has thousands. */
  function onScreen() {
    if (!tops) tops = Float32Array.from(nodes, (node) => node.offsetTop);
    const search = (height) => { let a = 0, b = tops.length; while (a < b) { const m = (a + b) >> 1; if (tops[m] < height) a = m + 1; else b = m; } return a; };
    return [search(scrolled - 26), search(scrolled + (stripHeight ||= strip.clientHeight))];
  }
  function shadeStrip() {
    profiles();
    const token = focus(), skip = sink(), difference = comparing();
    const [first, end] = onScreen();
    const rowTop = shownRow ? strongest(shownRow, skip, token + 1) : 0, columnTop = shownColumn ? strongest(shownColumn, token + 1, data.count) : 0;
    for (let other = first; other < end; other++) {
      const node = nodes[other];
      let shade = "";
      if (shownRow) {
        const after = other > token, value = after ? shownColumn[other] : shownRow[other], top = after ? columnTop : rowTop;
        const table = difference ? theme.difference : after ? theme.column : theme.row;
        // Few shades, and none below a tenth of the strongest: each change costs the page a style.
        const n = limit(Math.round(step(value, top, difference, model.get("scale") === "log" ? "log" : "linear") / 17) * 17, 0, 255);
        if (top && (difference ? Math.abs(n - 127.5) > 9 : n > 17)) shade = `background:${table.css[n]};color:${table.ink[n]}`;
      }
      if (node.shade !== shade) node.style.cssText = node.shade = shade;
    }
    const words = [];
    if (withoutDifference()) words.push(NO_DIFFERENCE);
    if (shownRow) {
      const name = `${pointed() >= 0 ? "hovered" : "selected"} token ${token}, ${quoted(data.pieces[token])}`;
      words.push(difference ? `differences of the ${name}: before it, what it attends to, to ±${percent(rowTop)}; after it, what attends to it, to ±${percent(columnTop)}` : `${name}: blue, before: what it attends to, up to ${percent(rowTop)}`);
      if (!difference && token < data.count - 1) words.push(`orange, after: what attends to it, up to ${percent(columnTop)}`);
      if (skip && !difference) { let sum = 0; for (let c = 0; c < Math.min(skip, token + 1); c++) sum += shownRow[c]; words.push(`${skip === 1 ? "first token" : `first ${skip} tokens`}, framed: ${percent(sum)}`); }
    }
    if (data.spans.length > 1) words.push("dotted: thinking, solid: answer");
    stripNote.textContent = words.join(" · ");
  }
  let wasHover = null, wasSelected = null, wasPins = [];
  function markStrip() {
    const now = pointed(), chosen = selected(), pinned = model.get("pins"), skip = sink();
    if (wasHover !== null && wasHover !== now) nodes[wasHover]?.classList.remove("hover");
    if (now >= 0) nodes[now]?.classList.add("hover");
    wasHover = now;
    if (wasSelected !== chosen) nodes[wasSelected]?.setAttribute("aria-selected", "false");
    nodes[chosen]?.setAttribute("aria-selected", "true");
    for (const token of wasPins) nodes[token]?.classList.toggle("pinned", pinned.includes(token));
    for (const token of pinned) nodes[token]?.classList.add("pinned");
    wasPins = pinned;
    if (wasSelected !== chosen && nodes[chosen] && !hover) {
      const node = nodes[chosen], line = node.offsetTop;
      if (line < strip.scrollTop || line > strip.scrollTop + strip.clientHeight - 24) strip.scrollTop = line - strip.clientHeight / 3;
    }
    wasSelected = chosen;
    for (let token = 0; token < Math.min(nodes.length, 64); token++) nodes[token].classList.toggle("first", token < skip);
  }
  function lists() {
    const pair = both(), token = selected();
    if (!pair || token < 0 || token >= pair.rows) {
      refill(before, strip, element("p", "soft", token < 0 ? "No token is selected." : pair ? `Token ${token}, ${quoted(data.pieces[token])}: ${NO_DIFFERENCE}.` : ""));
      refill(after, strip);
      return;
    }
    const row = rowOf(pair, token), column = columnOf(pair, token), difference = comparing();
    const best = (values, from, to) => {
      const order = [];
      for (let t = from; t < to; t++) { // a short insertion sort: the text may be long
        const size = Math.abs(values[t]);
        if (!Number.isFinite(size) || (order.length === LIST && size <= Math.abs(values[order.at(-1)]))) continue;
        let at = order.length;
        while (at && size > Math.abs(values[order[at - 1]])) at--;
        order.splice(at, 0, t);
        if (order.length > LIST) order.pop();
      }
      return order;
    };
    const table = (caption, order, values, uniform) => {
      const head = ["token", "piece", ...(difference ? ["this", "other", "difference"] : ["attention", "uniform"])];
      const cell = (tag, text, n) => element(tag, n === 1 ? "text" : "", text);
      const body = order.map((other) => {
        const go = element("button", "", String(other));
        go.addEventListener("click", () => choose(other));
        const [r, c] = values === row ? [token, other] : [other, token];
        const numbers = difference ? [percent(pair.one.weight(r, c)), percent(pair.other.weight(r, c)), signed(values[other])] : [percent(values[other]), percent(uniform(other))];
        return element("tr", "", ...[go, shownPiece(other), ...numbers].map((text, n) => cell("td", text, n)));
      });
      return element("table", "", element("caption", "", caption), element("thead", "", element("tr", "", ...head.map((text, n) => cell("th", text, n)))), element("tbody", "", ...body));
    };
    refill(before, strip, table(`Selected token ${token}, ${quoted(data.pieces[token])}, attends to`, best(row, 0, token + 1), row, () => 1 / (token + 1)));
    refill(after, strip, table(`Selected token ${token}, ${quoted(data.pieces[token])}, is attended by`, best(column, token, data.count), column, (other) => 1 / (other + 1)));
  }
  function read() {
    const layer = model.get("layer"), head = model.get("head"), group = data.heads / data.key_heads, pair = both();
    const shared = Math.floor(head / group), shares = group > 1 ? ` · heads ${shared * group} to ${shared * group + group - 1} share key–value head ${shared}` : "";
    let words = `Layer ${layer}, head ${head}${shares}`;
    if (hover?.grid) words = `Layer ${hover.grid[0]}, head ${hover.grid[1]}${group > 1 ? ` (key–value head ${Math.floor(hover.grid[1] / group)})` : ""}: ${canOpen(...hover.grid) ? "click to see it large" : "this page does not hold its large map"}`;
    else if (hover?.row !== undefined && pair) {
      const { row, apart } = hover, from = apart ? 0 : hover.column, to = apart ? Math.min(sink(), row + 1) : from + 1;
      const name = (token) => `${quoted(data.pieces[token])} (token ${token})`, target = to - from > 1 ? `the first ${to} tokens` : name(from);
      const sum = (weight) => { let all = 0; for (let column = from; column < to; column++) all += weight(column); return all; };
      const share = sum((column) => value(pair, row, column)), whole = sum((column) => pair.one.weight(row, column));
      words = from > row ? `${name(row)} cannot attend to ${target}, which comes later` : row >= pair.rows ? `${name(row)}: ${NO_DIFFERENCE}` : `${name(row)} → ${target}: ${comparing() ? `${percent(whole)} minus ${percent(whole - share)} = ${signed(share)}` : percent(share)}; spread evenly it would be ${percent((to - from) / (row + 1))}`;
    } else if (focus() >= 0) words += ` · token ${focus()}, ${quoted(data.pieces[focus()])}`;
    reading.textContent = words;
  }

  // -- when what is drawn -------------------------------------------------------------------------------

  function controlsFollow() {
    for (const { select, name } of Object.values(controls)) select.value = String(model.get(name));
    if (held) {
      const openSubtracted = (layer, head) => held.has(key(0, layer, head));
      for (const [layers, heads, open] of [["layer", "head", canOpen], ["other_layer", "other_head", openSubtracted]]) {
        for (const option of controls[layers].select.options) option.disabled = !allHeads.some((head) => open(option.value, head));
        for (const option of controls[heads].select.options) option.disabled = !open(model.get(layers), option.value);
      }
    }
    const compare = model.get("compare");
    controls.other_layer.holder.hidden = controls.other_head.holder.hidden = compare !== "head";
    if (model.get("sink") > 0) usualSink = model.get("sink");
    apart.checked = model.get("sink") > 0;
    apartWords.textContent = usualSink === 1 ? "first token apart" : `first ${usualSink} tokens apart`;
    stop.hidden = !model.get("running");
    const minus = { none: "", head: ` − layer ${model.get("other_layer")}, head ${model.get("other_head")}`, trace: ` − the same head of ${data.other}` }[compare];
    mapTitle.textContent = `Layer ${model.get("layer")}, head ${model.get("head")}${minus}`;
    pinButton.disabled = selected() < 0;
    pinButton.textContent = selected() < 0 ? "pin" : `${model.get("pins").includes(selected()) ? "unpin" : "pin"} token ${selected()}`;
    const notes = [];
    if (data.error) notes.push(data.error);
    if (compare === "head" && mine() === theirs()) notes.push("This is a head minus itself: choose another one.");
    if (compare === "trace" && data.shared < data.count) notes.push(`Only the first ${data.shared} tokens are the same in both traces; later rows have no difference.`);
    problem.hidden = !notes.length;
    problem.textContent = notes.join(" ");
    about.textContent = data.count ? `${counted(data.count)} · ${counted(data.layers.length, "layer")} × ${counted(data.heads, "head")}${data.key_heads < data.heads ? `, ${data.key_heads} key–value heads a layer` : ""}${model.get("running") ? " · generating …" : ""}` : "waiting for the first tokens …";
  }
  const dirty = new Set();
  let frame = 0;
  function schedule(...what) {
    for (const name of what) dirty.add(name);
    frame ||= requestAnimationFrame(flush);
  }
  let lastWidth = 0, room = { left: 0, right: 0 }; // measured when the width changes: to ask for a size costs a layout
  function flush() {
    cancelAnimationFrame(frame);
    frame = 0;
    if (!data) return;
    if (dirty.has("theme") || !theme) readTheme();
    const all = dirty.has("all") || dirty.has("theme");
    if (all || dirty.has("select")) controlsFollow();
    if (!data.count) { dirty.clear(); return; }
    ask();
    if (all) {
      const width = (lastWidth = Math.floor(root.clientWidth) - 12), column = measureGrid(width);
      left.style.width = width < 760 ? "" : `${column}px`;
      room = { left: left.clientWidth, right: Math.floor(right.clientWidth) };
      paintThumbs();
    } else if (dirty.has("scale")) paintThumbs();
    if (all || dirty.has("grid") || dirty.has("scale") || dirty.has("select")) drawGrid();
    const pair = both();
    if (!pair && asked && performance.now() < patience) {
      root.dataset.ready = "false";
      dirty.clear();
      return;
    }
    if (all || dirty.has("map") || dirty.has("scale") || !place) { makeTile(); measureMap(); drawMap(); lists(); }
    else if (dirty.has("select")) { drawOver(); drawPins(); lists(); }
    else if (dirty.has("hover")) drawOver();
    markStrip();
    shadeStrip();
    read();
    dirty.clear();
    root.dataset.ready = String(Boolean(pair) || !missing.hidden);
    root.dataset.token = selected();
  }
  const say = () => { if (data?.count) spoken.textContent = `layer ${model.get("layer")}, head ${model.get("head")}${selected() >= 0 ? `, token ${selected()} ${data.pieces[selected()]}` : ""}`; };

  // -- pointer and keys -----------------------------------------------------------------------------------

  function choose(token, more = {}) { page.set({ ...more, token: limit(token, -1, data.count - 1) }); say(); }
  function pin(token) {
    if (token < 0) return;
    const list = model.get("pins");
    page.set({ pins: list.includes(token) ? list.filter((other) => other !== token) : [...list, token] });
  }
  function point(next) { hover = next; schedule("hover"); }
  const spot = (canvas, event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const cellAt = ([px, py], clamp = false) => {
    const u = (px - place.x) / place.side, v = (py - place.y) / place.side;
    if (!clamp && (v < 0 || v >= 1 || u >= 1 || px < place.label)) return null;
    const row = place.r0 + Math.floor(limit(v, 0, 0.999999) * place.rows);
    if (u < 0 && !clamp) return { row, apart: true };
    const column = place.c0 + Math.floor(limit(u, 0, 0.999999) * place.columns);
    return { row, column };
  };
  map.addEventListener("pointermove", (event) => {
    if (!data?.count || !place) return;
    const at = spot(map, event);
    if (drag) {
      if (Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) > 5) drag.to = at;
      return schedule("hover");
    }
    const next = cellAt(at);
    if (next?.row !== hover?.row || next?.column !== hover?.column || next?.apart !== hover?.apart) point(next);
  });
  map.addEventListener("pointerdown", (event) => { if (event.button || !data?.count || !cellAt(spot(map, event))) return; drag = { from: spot(map, event), to: null }; map.setPointerCapture(event.pointerId); });
  map.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { from, to } = drag, first = cellAt(from, true), last = to && cellAt(to, true);
    drag = null;
    if (last) {
      const [r0, r1] = [Math.min(first.row, last.row), Math.max(first.row, last.row) + 1], [c0, c1] = [Math.min(first.column, last.column), Math.max(first.column, last.column) + 1];
      if (r1 - r0 > 1 && c1 - c0 > 1) { hover = null; return page.set({ zoom: [r0, r1, c0, c1] }); }
    }
    if (event.shiftKey) pin(first.row);
    else choose(first.row);
  });
  map.addEventListener("pointercancel", () => { drag = null; schedule("hover"); });
  for (const node of [map, strip, grid]) node.addEventListener("pointerleave", () => { if (hover && !drag) point(null); });
  const tokenOf = (event) => event.target.closest?.(".token")?.number ?? -1;
  strip.addEventListener("pointermove", (event) => { const token = tokenOf(event); if (token !== (hover?.token ?? -1)) point(token < 0 ? null : { token }); });
  strip.addEventListener("click", (event) => { const token = tokenOf(event); if (token < 0) return; if (event.shiftKey) pin(token); else choose(token); });
  strip.addEventListener("scroll", () => { scrolled = strip.scrollTop; if (data?.count) schedule("scroll"); });
  const headAt = ([px, py]) => {
    const row = Math.floor((py - boxes.top) / boxes.cell);
    if (row < 0 || row >= data.layers.length) return null;
    for (let head = 0; head < data.heads; head++) if (px >= headLeft(head) && px < headLeft(head) + boxes.cell) return [data.layers[row], head];
    return null;
  };
  grid.addEventListener("pointermove", (event) => { if (!data?.count) return; const at = headAt(spot(grid, event)); point(at && { grid: at }); });
  grid.addEventListener("click", (event) => { const at = data?.count && headAt(spot(grid, event)); if (at) page.set({ layer: at[0], head: at[1] }); });
  for (const [button, factor] of [[smaller, 1 / 1.4], [larger, 1.4]]) button.addEventListener("click", () => { zoomed = limit(zoomed * factor, 0.5, 4); schedule("all"); });
  grid.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move || !data?.count || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    hover = null;
    const row = limit(data.layers.indexOf(model.get("layer")) + move[0], 0, data.layers.length - 1);
    page.set({ layer: data.layers[row], head: limit(model.get("head") + move[1], 0, data.heads - 1) });
    say();
  });
  function zoomBy(factor) {
    const [r0, r1, c0, c1] = region(), token = selected() < 0 ? r0 : selected();
    const around = (from, to, middle) => {
      const size = limit(Math.round((to - from) * factor), Math.min(4, data.count), data.count), start = limit(Math.round(middle - size / 2), 0, data.count - size);
      return [start, start + size];
    };
    const next = [...around(r0, r1, token), ...around(c0, c1, Math.min(token, (c0 + c1) / 2))];
    page.set({ zoom: next[1] - next[0] === data.count && next[3] - next[2] === data.count ? [] : next });
  }
  const onKey = (event) => {
    if (!data?.count || event.ctrlKey || event.metaKey || event.altKey) return;
    const move = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -data.count, End: data.count }[event.key];
    if (!move && !["p", "P", "+", "-", "Escape"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    hover = null;
    if (move) {
      const token = limit(Math.max(selected(), 0) + move, 0, data.count - 1), [r0, r1, c0, c1] = region();
      const down = Math.min(0, token - r0) + Math.max(0, token + 1 - r1); // so that its row is in the part shown
      choose(token, down ? { zoom: [r0 + down, r1 + down, c0, c1] } : {});
    }
    else if (event.key === "+") zoomBy(0.5);
    else if (event.key === "-") zoomBy(2);
    else if (event.key === "Escape" && drag) { drag = null; schedule("hover"); }
    else if (event.key === "Escape") { if (model.get("zoom").length) page.set({ zoom: [] }); else choose(-1); }
    else pin(selected());
  };
  map.addEventListener("keydown", onKey);
  strip.addEventListener("keydown", onKey);

  // -- messages -----------------------------------------------------------------------------------------------

  function describe() {
    data.count = data.pieces.length;
    data.kinds = new Array(data.count).fill("prompt");
    for (const span of data.spans) data.kinds.fill(span.kind, span.start, span.end);
  }
  const onMessage = (content, buffers) => {
    if (content.kind === "attention") {
      const before = data;
      data = content;
      describe();
      const same = before && before.count === data.count && before.model === data.model;
      if (!same) { heads.clear(); absent.clear(); thumbs = new Map(); thumbInfo = null; round = noRound; tile = null; asked = askedThumbs = null; }
      hover = null;
      const numbers = (all) => all.map((n) => [n, n]);
      allHeads = Array.from({ length: data.heads }, (_, n) => n);
      if (model.holds) {
        const all = [0, 1].flatMap((trace) => data.layers.flatMap((layer) => allHeads.map((head) => ({ kind: "head", trace, layer, head }))));
        held = new Set(all.filter(model.holds).map(({ trace, layer, head }) => key(trace, layer, head)));
      }
      for (const name of ["layer", "other_layer"]) controls[name].fill(numbers(data.layers));
      for (const name of ["head", "other_head"]) controls[name].fill(numbers(allHeads));
      controls.compare.fill([["none", "nothing"], ["head", "another head"], ...(data.other ? [["trace", data.other]] : [])]);
      title.textContent = `What ${data.model} attends to`;
      wasHover = wasSelected = null;
      wasPins = [];
      buildStrip();
      dirty.add("all");
      flush();
      if (!data.count) root.dataset.ready = "true";
    } else if (content.kind === "more" && data) {
      const { start } = content;
      if (start > data.count) page.send({ kind: "want" }); // something was missed
      if (start !== data.count) return;
      data.pieces.push(...content.pieces);
      data.turns = content.turns;
      const last = data.spans.at(-1), end = start + content.pieces.length;
      if (last?.kind === content.span) last.end = end;
      else data.spans.push({ kind: content.span, start, end });
      describe();
      const name = key(0, content.layer, content.head), head = heads.get(name);
      if (head && head.tokens === content.start) head.append(content, buffers);
      else if (!content.start) store(name, new Head(content, buffers));
      buildStrip(start);
      root.dataset.tokens = data.count;
      schedule("all");
    } else if (content.kind === "head") {
      const name = key(content.trace, content.layer, content.head);
      if (asked === name) asked = null;
      store(name, new Head(content, buffers));
      if (data.count > heads.get(name).tokens && !model.get("running") && !content.trace) heads.delete(name);
      if (name === mine() || (comparing() && name === theirs())) dirty.add("map");
      flush();
    } else if (content.kind === "thumbnails") {
      // Of several displays of one widget each hears what the others asked for.
      if (askedThumbs === named(content)) askedThumbs = null;
      if (settingsOf(content) === round.wanted) {
        const { difference } = content;
        const bytes = copied(buffers[0], difference ? Int8Array : Uint8Array), side = Math.ceil(content.tokens / content.size), cells = (side * (side + 1)) / 2;
        thumbInfo = content;
        round.count = data.count;
        missingThumbs.delete(`${content.layer}/${content.head}`);
        for (let n = 0; n < content.heads; n++) {
          const values = bytes.subarray(n * cells, (n + 1) * cells), index = content.layer * data.heads + content.head + n;
          values.side = side;
          values.round = round;
          thumbs.set(index, values);
          if (theme && atlas) paintThumb(index);
        }
        const next = content.head + content.heads;
        if (next < data.heads && thumbs.get(content.layer * data.heads + next)?.round !== round) missingThumbs.add(`${content.layer}/${next}`);
        root.dataset.complete = String(!missingThumbs.size);
        schedule("grid");
      }
      askForThumbs();
    } else if (content.kind === "absent") {
      if (content.asked.kind === "head") {
        asked = null;
        absent.add(key(content.asked.trace, content.asked.layer, content.asked.head));
        dirty.add("map");
        flush();
      } else if (content.asked.kind === "thumbnails") {
        if (askedThumbs === named(content.asked)) askedThumbs = null;
        if (settingsOf(content.asked) === round.wanted) { missingThumbs.clear(); round.absent = true; }
        schedule("grid");
      }
    }
  };
  page.on("msg:custom", onMessage);
  page.on(["change:token", "change:pins"], () => schedule("select"));
  page.on(["change:layer", "change:head", "change:compare", "change:other_layer", "change:other_head"], () => {
    tile = null;
    schedule("select", "map");
    queueMicrotask(ask); // layer and head change together
  });
  page.on(["change:zoom", "change:sink", "change:blocks"], () => schedule("map", "select"));
  page.on("change:scale", () => schedule("scale", "select"));
  page.on("change:running", () => schedule("all"));
  const tell = () => { doing.textContent = model.get("doing"); };
  page.on("change:doing", tell);
  tell();
  const sizes = new ResizeObserver(() => {
    if (Math.abs(Math.floor(root.clientWidth) - 12 - lastWidth) < 2) return;
    tops = null;
    stripHeight = 0;
    schedule("all");
  });
  sizes.observe(root);
  // A notebook that draws only what is on screen blanks canvases that scroll away.
  const watcher = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) schedule("theme"); });
  watcher.observe(map);
  watcher.observe(grid);
  page.onTheme(() => schedule("theme"));
  page.atEnd(() => { sizes.disconnect(); watcher.disconnect(); cancelAnimationFrame(frame); });
  return page.begin();
}

export default { render };
