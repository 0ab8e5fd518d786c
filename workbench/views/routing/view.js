/**
 * Expert routing: tokens, map, load, one token's router and one expert's tokens, all linked.
 * Moving the pointer shows (a state of this page), a click keeps (a trait).
 *
 * @typedef Model
 * @property {number} document  index of the selected token's document (trace)
 * @property {number} token     selected token within its document, -1 for none
 * @property {number} layer     selected layer
 * @property {number} expert    selected expert, -1 for none
 * @property {number} group     group whose winner colours the tokens
 * @property {"group"|"margin"|"entropy"|"surprisal"} colour  of the tokens
 * @property {string} domain    filter: "all" or a label
 * @property {"all"|"prompt"|"thinking"|"answer"} span  filter
 * @property {"all"|"prefill"|"decode"} phase  filter
 * @property {string} search    filter: a text, or a regular expression between slashes
 * @property {"others"|"uniform"} compare  what chance means
 * @property {boolean} running  whether a generation fills the view
 * @property {string} doing     what it does meanwhile, where a token takes long
 *
 * Messages to Python, besides those of all views: {kind: "want"}, {kind: "layer", layer},
 * {kind: "block", layer, block}, {kind: "stop"}.
 * Messages from Python, axes [token, layer, slot] over all documents joined:
 * {kind: "routing", layers, slots, experts, groups, grouped, obeyed_groups, block, documents, missing, error} with
 * choices (4 bits each within their group, low half first, or uint16 ids where not grouped),
 * surprisal [token] float32, colours [expert, 3] uint8, router_scale [document, layer, expert] float32;
 * {kind: "more", start, pieces, span, missing} with choices and surprisal of new tokens;
 * {kind: "layer", layer} with weights [token, slot], entropy [token], margins [token, slot] float32;
 * {kind: "block", layer, block} with probabilities [token, expert] float32; what is not known is empty.
 */
import { BLUES, css, luminance } from "../shared/colours.js";
import { button, element, refill, rootOf, tellGone } from "../shared/dom.js";
import { talk } from "../shared/talk.js";
import { copied, counted, limit, quoted } from "../shared/values.js";

const LEVEL = 0.05; // of a whole panel; the same numbers as in exact_tests.py
const LIST = 8; // tokens listed on an expert's card
const ROWS = 400; // rows of a table view
const WIDEST = 32; // pixels of a token on the map
const KINDS = [["any kind of token", ""], ["digits", "/^ ?[0-9]+$/"], ["words", "/[A-Za-z]{2,}/"], ["capital letters", "/^ ?[A-Z]/"], ["punctuation", "/^ ?[!-\\/:-@[-`{-~\u3000-\u303f\uff00-\uffef]+$/"], ["Chinese", "/[\u4e00-\u9fff]/"], ["spaces and new lines", "/^\\s+$/"], ["special", "/^(\\[unused[0-9]+\\]|<(s|/s|unk|pad)>|<\\|[^|]*\\|>:?)$/"]];
// Pieces that are names and not what a token says; the same patterns as in _routing.py.
const NAME = /^(\[unused[0-9]+\]|<(s|\/s|unk|pad|id [0-9]+|0x[0-9A-F]{2})>|<\|[^|]*\|>:?)$/;
const BYTE = /^<0x([0-7][0-9A-F])>$/; // that is a character
const ASKED = /\[unused|<[a-z0-9/|]/i;
const NONE = "No token passes these filters; “all tokens” takes them away.";
const LOST = { router_logits: "probabilities, margins and entropy", routing_weights: "weights", chosen_logprobs: "surprisal" }; // with an array that is missing
const SPANS = ["prompt", "thinking", "answer"];

// -- chance: exact tests, see analysis/exact_tests.py -------------------------------------------------

let factorials = [0];
function logFactorial(n) {
  while (factorials.length <= n) factorials.push(factorials.at(-1) + Math.log(factorials.length));
  return factorials[n];
}
const logChoose = (n, k) => logFactorial(n) - logFactorial(k) - logFactorial(n - k);

/** Lowest and highest count that uniform routing gives: binomial tails of LEVEL / 2 / comparisons. */
function uniformBand(tokens, share, comparisons) {
  const tail = LEVEL / 2 / comparisons;
  const mass = (k) => Math.exp(logChoose(tokens, k) + k * Math.log(share) + (tokens - k) * Math.log1p(-share));
  let low = 0, high = tokens;
  for (let sum = mass(0); sum <= tail && low < tokens; sum += mass(++low));
  for (let sum = mass(tokens); sum <= tail && high > 0; sum += mass(--high));
  return [low, high];
}

/** Whether `kept` tokens drawn at random of `all` would rarely use an expert `count` times of `total`. */
function beyondOthers(count, total, kept, all, comparisons) {
  const above = count * all >= total * kept;
  const end = above ? Math.min(kept, total) : Math.max(0, kept - (all - total));
  const tail = LEVEL / 2 / comparisons;
  let sum = 0;
  for (let k = count; above ? k <= end : k >= end; k += above ? 1 : -1) {
    const term = Math.exp(logChoose(total, k) + logChoose(all - total, kept - k) - logChoose(all, kept));
    sum += term;
    if (sum > tail || term < tail * 1e-9) break;
  }
  return sum <= tail;
}

// -- small tools --------------------------------------------------------------------------------------

const percent = (share, digits = 1) => (Number.isFinite(share) ? `${(100 * share).toFixed(digits)} %` : "–");
const yesNo = (value) => element("span", value ? "beyond" : "soft", value ? "yes" : "no");
/** Where a number lies beside what chance gives. */
const verdict = (beyond, above) => element("span", beyond ? "beyond" : "soft", beyond ? (above ? "above" : "below") : "within");
const fixed = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
const floats = (view) => copied(view, Float32Array);
const pixel = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r; // of an ImageData seen as Uint32Array
const onTop = (rgb) => (luminance(rgb) > 0.5 ? "#000" : "#fff");

/** What a token says; null for a special token and for a byte that is no character. */
function saidBy(piece) {
  const byte = BYTE.exec(piece);
  if (byte) return String.fromCharCode(parseInt(byte[1], 16));
  return NAME.test(piece) ? null : piece;
}
/** A test of pieces by what they say, and by their names if the search asks for one; null for a pattern that is none. */
function matcher(search) {
  const wanted = search.toLowerCase(), asked = ASKED.test(search);
  let test = (text) => text.toLowerCase().includes(wanted);
  if (search.length > 2 && search.startsWith("/") && search.endsWith("/")) {
    try {
      const pattern = new RegExp(search.slice(1, -1));
      test = (text) => pattern.test(text);
    } catch {
      return null;
    }
  }
  return (piece) => {
    const said = saidBy(piece);
    return (said !== null && test(said)) || (asked && test(piece));
  };
}

/** The head of a column, defined where it stands. */
const explained = (name, meaning) => {
  const node = element("span", "explained", name);
  node.title = meaning;
  return node;
};
/** A table of texts; a cell that is a node stays one; `texts` are the columns that are read from the left. */
function tableOf(head, rows, texts = []) {
  const cell = (tag, value, column) => element(tag, texts.includes(column) ? "text" : "", value instanceof Node ? value : String(value));
  const body = element("tbody", "", ...rows.map((row) => element("tr", "", ...row.map((value, column) => cell("td", value, column)))));
  return element("table", "", element("thead", "", element("tr", "", ...head.map((value, column) => cell("th", value, column)))), body);
}

/** The joined row of tokens: everything that the page was told, growing with a live generation. */
class Tokens {
  constructor(content, buffers) {
    Object.assign(this, content, { size: content.experts / content.groups, count: 0, pieces: [], kind: null });
    this.starts = [];
    this.palette = Array.from({ length: this.experts }, (_, e) => [0, 1, 2].map((c) => buffers[2].getUint8(3 * e + c)));
    this.colours = this.palette.map(css);
    this.inks = this.palette.map(onTop);
    this.scales = floats(buffers[3]);
    this.room = 0;
    const bits = floats(buffers[1]);
    for (const [number, part] of this.documents.entries()) {
      const kinds = new Array(part.pieces.length).fill("prompt");
      for (const span of part.spans) kinds.fill(span.kind, span.start, span.end);
      this.starts.push(this.pieces.length);
      this.describe(part.pieces, kinds, number, part.prompt);
    }
    this.bits.set(bits);
    this.unpack(buffers[0], 0, this.count);
    this.labels = [...new Set(this.documents.map((part) => part.label))];
  }

  /** Make room for new tokens and keep what is known of each. */
  describe(pieces, kinds, number, prompt) {
    const start = this.count, end = start + pieces.length;
    if (end > this.room || !this.chosen) {
      this.room = Math.max(end, 2 * this.room);
      const grow = (old, Kind, width) => { const fresh = new Kind(this.room * width); if (old) fresh.set(old); return fresh; };
      this.chosen = grow(this.chosen, Uint16Array, this.layers * this.slots);
      this.bits = grow(this.bits, Float32Array, 1);
      this.owner = grow(this.owner, Uint16Array, 1);
      this.kind = grow(this.kind, Uint8Array, 1);
      this.decode = grow(this.decode, Uint8Array, 1);
    }
    for (let place = 0; place < pieces.length; place++) {
      this.pieces.push(pieces[place]);
      this.owner[start + place] = number;
      this.kind[start + place] = Math.max(0, SPANS.indexOf(kinds[place]));
      this.decode[start + place] = start + place - this.starts[number] >= prompt ? 1 : 0;
    }
    this.count = end;
  }

  unpack(view, start, end) {
    const width = this.layers * this.slots, total = (end - start) * width, offset = start * width;
    if (this.grouped && this.size <= 16) {
      const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      for (let n = 0; n < total; n++) this.chosen[offset + n] = (n % this.slots) * this.size + ((bytes[n >> 1] >> (4 * (n & 1))) & 15);
    } else for (let n = 0; n < total; n++) this.chosen[offset + n] = view.getUint16(2 * n, true);
  }

  append({ pieces, span, missing }, buffers) {
    const start = this.count, number = this.documents.length - 1;
    this.missing = missing;
    this.describe(pieces, new Array(pieces.length).fill(span), number, span === "prompt" ? Infinity : 0);
    this.bits.set(floats(buffers[1]), start);
    this.unpack(buffers[0], start, this.count);
  }

  at(token, layer, slot) { return this.chosen[(token * this.layers + layer) * this.slots + slot]; }
  group(expert) { return Math.floor(expert / this.size); }
  within(token) { return token - this.starts[this.owner[token]]; }
  scale(token, layer, expert) { return this.scales[(this.owner[token] * this.layers + layer) * this.experts + expert]; }
  label(token) { return this.documents[this.owner[token]].label; }
  /** Slot in which a token uses an expert, -1 if it does not. */
  slot(token, layer, expert) {
    if (this.grouped) return this.at(token, layer, this.group(expert)) === expert ? this.group(expert) : -1;
    for (let slot = 0; slot < this.slots; slot++) if (this.at(token, layer, slot) === expert) return slot;
    return -1;
  }
}

function render({ model, el }) {
  const root = rootOf(el, "pw-routing"), page = talk(model, () => tellGone(root));

  let data = null; // Tokens
  let hover = null; // {token, layer, expert} under the pointer, any of them
  let keep = new Uint8Array(0), kept = 0, counts = null, totals = null, band = [0, 0], beyond = null;
  let from = 0, cell = 0; // first token of the window; 0: not chosen yet
  let theme = null;
  const layers = new Map(), blocks = new Map(), pending = new Set(), absent = new Set();

  // -- the page's parts -------------------------------------------------------------------------------

  const title = element("span", "title"), summary = element("span", "soft");
  const status = element("span", ""), doing = element("span", "soft"), halt = element("button", "plain", "Stop");
  halt.addEventListener("click", () => page.send({ kind: "stop" }));
  const filters = element("div", "row"), warning = element("div", "warning"), readout = element("div", "readout soft");
  const spoken = element("div", "spoken"), problem = element("div", "warning problem");
  problem.hidden = true;
  problem.setAttribute("role", "alert");
  spoken.setAttribute("aria-live", "polite");
  const canvasOf = (parent, name, label) => {
    const canvas = element("canvas", name), over = element("canvas", "over");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    parent.append(element("div", "stage", canvas, over));
    return { canvas, over };
  };
  const panel = (name, heading) => {
    const bar = element("div", "row", element("h4", "", heading)), body = element("section", `panel-${name}`, bar);
    return { bar, body };
  };
  const strips = panel("tokens", "Tokens"), maps = panel("map", "Layers × tokens × groups"), loads = panel("load", "Layers × experts");
  const details = panel("token", "The token's router"), cards = panel("expert", "The expert's tokens");
  const legend = element("span", "row small soft"), strip = element("div", "strip");
  strip.tabIndex = 0;
  strip.setAttribute("role", "listbox");
  strip.setAttribute("aria-label", "tokens; arrow keys move the selection, up and down the layer, Escape clears it");
  const overview = element("canvas", "overview");
  overview.setAttribute("aria-label", "all tokens; drag to move the window");
  strips.body.append(overview, strip);
  const loadGrid = element("div", "two"), loadLeft = element("div"), rank = element("div", "rank");
  loadGrid.append(loadLeft, rank);
  loads.body.append(loadGrid);
  const load = canvasOf(loadLeft, "load", "share of tokens by layer and expert; left and right move the expert, up and down the layer");
  const loadNote = element("p", "soft small");
  loadLeft.append(loadNote);
  const card = element("div", "card");
  cards.body.append(card);
  const caption = element("p", "caption"), bars = element("canvas", "bars"), barsNote = element("p", "soft small");
  const winners = element("div", "winners"), counterfactual = element("p", "soft small counterfactual");
  bars.setAttribute("role", "img");
  bars.setAttribute("aria-label", "router probability of every expert, by group; the table has the same numbers");
  details.body.append(caption, bars, barsNote, winners, counterfactual);
  const pair = element("div", "two even");
  pair.append(cards.body, details.body);
  const range = element("span", "soft small");
  const map = canvasOf(maps.body, "map", "experts by layer, token and group; left and right move the token, up and down the layer");
  root.append(element("div", "row", title, summary, doing, status, halt), filters, problem, warning, readout, strips.body, loads.body, pair, maps.body, spoken);

  // -- traits and controls ----------------------------------------------------------------------------

  /** The selected token on the joined axis, -1 for none. */
  const pinned = () => {
    const token = model.get("token"), part = data.documents[model.get("document")];
    if (token < 0 || !part) return -1;
    const place = data.starts[model.get("document")] + token;
    return place < data.count ? place : -1;
  };
  const current = () => ({ token: hover?.token ?? pinned(), layer: hover?.layer ?? model.get("layer"), expert: hover?.expert ?? model.get("expert") });
  function choose({ token, layer, expert }) {
    page.set({
      ...(token !== undefined && { document: token < 0 ? model.get("document") : data.owner[token], token: token < 0 ? -1 : data.within(token) }),
      ...(layer !== undefined && { layer }),
      ...(expert !== undefined && { expert }),
    });
  }
  const pick = (label, options, get, set) => {
    const select = element("select");
    select.setAttribute("aria-label", label); // its label's text would hold all options
    for (const [text, value] of options) select.append(new Option(text, value));
    select.addEventListener("change", () => set(select.value));
    return { holder: element("label", "", `${label} `, select), update: () => { select.value = String(get()); } };
  };
  const same = (names) => names.map((name) => [name, name]);
  let controls = [];
  const search = element("input"), goTo = element("input");
  search.type = goTo.type = "search";
  search.placeholder = "text or /pattern/, then Enter";
  search.title = "Enter searches what tokens say. Names of special tokens and bytes, such as [unused9] and <0x0A>, are found only if [unused stands in the search, or < before a letter, a digit, / or |.";
  search.className = "find";
  // JupyterLab keeps Enter from ending an input.
  const entered = (input, call) => {
    input.addEventListener("change", call);
    input.addEventListener("keydown", ({ key }) => key === "Enter" && call());
  };
  entered(search, () => {
    search.classList.toggle("bad", !matcher(search.value));
    if (!matcher(search.value)) return say(`${search.value} is no regular expression.`);
    say("");
    page.set({ search: searched = search.value });
  });
  let searched = ""; // the filter that the input last showed: a redraw leaves what somebody is typing
  const showSearch = () => {
    search.value = searched = model.get("search");
    search.classList.remove("bad");
  };
  goTo.placeholder = "17 or 3.17";
  goTo.title = "Enter goes to the expert of this number, of the layer before the point or the one shown.";
  goTo.size = 11;
  entered(goTo, () => {
    const found = /^\s*(?:(\d+)\s*\.\s*)?(\d+)\s*$/.exec(goTo.value);
    const layer = found?.[1] === undefined ? model.get("layer") : Number(found[1]), expert = found ? Number(found[2]) : -1;
    const good = found && expert < data.experts && layer < data.layers;
    goTo.classList.toggle("bad", Boolean(goTo.value) && !good);
    say("");
    if (good) choose({ layer, expert });
    else if (goTo.value) say(`There is no expert ${goTo.value}; experts are 0 to ${data.experts - 1}, layers 0 to ${data.layers - 1}.`);
  });
  const clear = element("button", "plain", "all tokens");
  clear.addEventListener("click", () => {
    page.set({ domain: "all", span: "all", phase: "all", search: "" });
    showSearch();
    say("");
  });
  const tables = []; // rebuild those that are open
  function tableButton({ bar, body }, name, build) {
    const button = element("button", "plain small", "table"), holder = element("div", "numbers");
    holder.tabIndex = 0;
    holder.hidden = true;
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", `table of ${name}`);
    button.addEventListener("click", () => {
      holder.hidden = !holder.hidden;
      button.setAttribute("aria-pressed", String(!holder.hidden));
      if (holder.hidden) return holder.replaceChildren();
      build(holder);
      holder.scrollIntoView({ block: "nearest" });
    });
    bar.append(button);
    body.append(holder);
    tables.push(() => holder.hidden || build(holder));
  }
  const zoom = (text, label, next) => {
    const button = element("button", "plain small", text);
    button.setAttribute("aria-label", label);
    button.addEventListener("click", () => {
      const middle = from + shown() / 2;
      cell = limit(next(cell), 1, WIDEST);
      scrollTo(Math.round(middle - shown() / 2));
    });
    return button;
  };
  const colouring = element("span", "row");
  strips.bar.append(colouring, legend);
  maps.bar.append(zoom("−", "zoom out", (cell) => Math.floor(cell / 1.5)), zoom("+", "zoom in", (cell) => Math.ceil(cell * 1.5)), range);
  tableButton(strips, "tokens", tokenTable);
  tableButton(loads, "load", loadTable);
  tableButton(cards, "the expert's tokens", expertTable);
  tableButton(details, "the router", routerTable);
  tableButton(maps, "map", mapTable);

  let built = "";
  /** The controls that depend on the model and the texts; left alone where these stay the same. */
  function build() {
    title.textContent = `Expert routing of ${[...new Set(data.documents.map((part) => part.model))].join(", ")}`;
    const shape = JSON.stringify([data.layers, data.slots, data.labels]);
    if (built === shape) return;
    built = shape;
    const trait = (label, name, options) => pick(label, options, () => model.get(name), (value) => page.set({ [name]: value }));
    const numbered = (label, name, count) => pick(label, same([...Array(count).keys()]), () => model.get(name), (value) => page.set({ [name]: Number(value) }));
    const layer = numbered("layer", "layer", data.layers), group = numbered("group", "group", data.slots);
    const kind = pick("kind", KINDS, () => (KINDS.some(([, value]) => value === model.get("search")) ? model.get("search") : ""), (value) => page.set({ search: value }));
    const colour = trait("colour", "colour", [["winner of group", "group"], ["winner's margin", "margin"], ["router entropy", "entropy"], ["surprisal", "surprisal"]]);
    const rest = [
      ...(data.labels.length > 1 ? [trait("domain", "domain", same(["all", ...data.labels]))] : []),
      trait("span", "span", same(["all", ...SPANS])),
      trait("phase", "phase", same(["all", "prefill", "decode"])),
      trait("compare with", "compare", [["the other tokens", "others"], ["uniform routing", "uniform"]]),
    ];
    controls = [layer, kind, ...rest, colour, group];
    filters.replaceChildren(layer.holder, element("label", "", "go to expert ", goTo), kind.holder, element("label", "", "find tokens ", search), ...rest.map((control) => control.holder), clear);
    colouring.replaceChildren(colour.holder, group.holder);
  }
  /** What is wrong with an input; stays until an input is right. */
  const say = (text) => { problem.textContent = text; problem.hidden = !text; };

  // -- numbers ----------------------------------------------------------------------------------------

  /** Which tokens pass the filters; `domain` may differ from the one on screen. */
  function filtered(domain) {
    const result = new Uint8Array(data.count);
    const found = model.get("search") ? matcher(model.get("search")) : null;
    const span = SPANS.indexOf(model.get("span")), phase = ["prefill", "decode"].indexOf(model.get("phase"));
    const wanted = data.documents.map((part) => domain === "all" || part.label === domain);
    for (let token = 0; token < data.count; token++)
      result[token] = wanted[data.owner[token]] && (span < 0 || data.kind[token] === span) && (phase < 0 || data.decode[token] === phase) && (!found || found(data.pieces[token])) ? 1 : 0;
    return result;
  }
  function countAll(mask) {
    const result = new Uint32Array(data.layers * data.experts), { chosen, slots, experts } = data, width = data.layers * slots;
    for (let token = 0; token < data.count; token++) {
      if (mask && !mask[token]) continue;
      let place = token * width;
      for (let row = 0; row < result.length; row += experts)
        for (let slot = 0; slot < slots; slot++) result[row + chosen[place++]]++;
    }
    return result;
  }
  /** Uses of every expert of one layer by the tokens of a mask. */
  function countLayer(layer, mask) {
    const result = new Uint32Array(data.experts);
    for (let token = 0; token < data.count; token++)
      if (mask[token]) for (let slot = 0; slot < data.slots; slot++) result[data.at(token, layer, slot)]++;
    return result;
  }
  const chance = () => data.slots / data.experts;
  const others = () => model.get("compare") === "others" && kept < data.count;
  function recount() {
    keep = filtered(model.get("domain"));
    kept = keep.reduce((sum, value) => sum + value, 0);
    counts = countAll(keep);
    if (totals?.tokens !== data.count) totals = { tokens: data.count, counts: countAll(null) };
    band = uniformBand(kept, chance(), counts.length);
    beyond = new Uint8Array(counts.length);
    const known = new Map();
    for (let n = 0; n < counts.length; n++) {
      if (others()) {
        const key = counts[n] * (data.count + 1) + totals.counts[n];
        if (!known.has(key)) known.set(key, beyondOthers(counts[n], totals.counts[n], kept, data.count, counts.length));
        beyond[n] = known.get(key) ? 1 : 0;
      } else beyond[n] = counts[n] < band[0] || counts[n] > band[1] ? 1 : 0;
    }
  }
  const share = (layer, expert) => counts[layer * data.experts + expert] / Math.max(1, kept);
  const isBeyond = (layer, expert) => beyond[layer * data.experts + expert] === 1;
  const base = (layer, expert) => (others() ? sharedByOthers(layer, expert) : chance());
  const verdictOf = (layer, expert) => verdict(isBeyond(layer, expert), share(layer, expert) > base(layer, expert));
  const sharedByOthers = (layer, expert) => (totals.counts[layer * data.experts + expert] - counts[layer * data.experts + expert]) / (data.count - kept);

  // -- what is asked when it is looked at -----------------------------------------------------------------

  const key = (question) => `${question.kind} ${question.layer} ${question.block ?? ""}`;
  let wanted = new Map(), timer = 0, sent = 0;
  const ask = (question) => { wanted.set(key(question), question); };
  /** Ask for what the last drawing missed: at rest, a few at a time, and not at every new token. */
  function settle() {
    clearTimeout(timer);
    const wait = Math.max(hover ? 80 : 0, model.get("running") ? 400 - (performance.now() - sent) : 0);
    if (wait > 0) timer = setTimeout(send, wait);
    else send();
  }
  function send() {
    for (const [name, question] of wanted) {
      if (pending.has(name) || absent.has(name) || pending.size > 3) continue;
      pending.add(name);
      sent = performance.now();
      page.send(question);
    }
  }
  /** Weights, entropies and margins of a layer, as far as they are here. */
  function ofLayer(layer) {
    const got = layers.get(layer);
    if (!got || got.tokens < data.count) ask({ kind: "layer", layer });
    return got || { tokens: 0 };
  }
  const weightOf = (layer, token, slot) => { const got = ofLayer(layer); return token < got.tokens && got.weights.length ? got.weights[token * data.slots + slot] : NaN; };
  const marginOf = (layer, token, slot) => { const got = ofLayer(layer); return token < got.tokens && got.margins.length ? got.margins[token * data.slots + slot] : NaN; };
  /** Probabilities of all experts for a token, or null. */
  function probabilities(layer, token) {
    const block = Math.floor(token / data.block), got = blocks.get(`${layer} ${block}`), place = token % data.block;
    if (!got || (got.length && got.length < (place + 1) * data.experts)) { ask({ kind: "block", layer, block }); return null; }
    return got.length ? got.subarray(place * data.experts, (place + 1) * data.experts) : null;
  }

  // -- drawing: theme, canvases, the window of tokens on screen ----

  function readTheme() {
    const probe = getComputedStyle(root);
    const numbers = (text) => (text.match(/[\d.]+/g) || [0, 0, 0]).slice(0, 3).map(Number);
    const ink = numbers(probe.color), paper = numbers(probe.backgroundColor);
    const stops = BLUES[luminance(paper) < 0.5 ? "dark" : "light"].map((hex) => [0, 2, 4].map((c) => parseInt(hex.slice(c, c + 2), 16)));
    const ramp = (value) => {
      const x = limit(Number.isFinite(value) ? value : 0, 0, 1) * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(x));
      return stops[low].map((part, c) => Math.round(part + (x - low) * (stops[low + 1][c] - part)));
    };
    const mark = element("span");
    mark.style.color = "var(--mark)";
    root.append(mark);
    const brand = getComputedStyle(mark).color;
    mark.remove();
    const steps = Array.from({ length: 256 }, (_, n) => ramp(n / 255));
    theme = { ink: css(ink), paper: css(paper), rgb: paper, ramp, mark: brand, pixels: steps.map(pixel), inks: steps.map(onTop) };
  }
  function pen(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    const context = canvas.getContext("2d");
    if (canvas.width === Math.round(width * ratio) && canvas.height === Math.round(height * ratio)) context.reset();
    else { // new memory only for a new size
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
  /** Clear an overlay without giving it new memory. */
  function wipe(canvas) {
    const context = canvas.getContext("2d");
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.restore();
    return context;
  }

  const widths = new Map(); // of what the canvases fill, as it was laid out last
  const widthOf = (node) => widths.get(node) || Math.floor(node.clientWidth);
  const shown = () => Math.min(data.count, Math.max(1, Math.floor((place.width - place.left) / cell)));
  let place = { width: 900, left: 66, row: 4, gap: 2 }; // of the map
  function measure() {
    const width = widthOf(maps.body) || 900, row = limit(Math.floor(290 / (data.layers * data.slots)), 1, 10);
    place = { width, left: 66, row, gap: row > 2 ? 4 : 1 };
    if (cell === 0) cell = limit(Math.floor((width - place.left) / data.count), 3, WIDEST);
    from = limit(from, 0, Math.max(0, data.count - shown()));
  }
  function scrollTo(token) {
    from = limit(token, 0, Math.max(0, data.count - shown()));
    drawMap();
    drawOverview();
    buildStrip();
    mark();
  }

  const swatch = (expert) => {
    const node = element("span", "swatch", String(expert));
    node.style.background = data.colours[expert];
    node.style.color = data.inks[expert];
    return node;
  };

  const expertButton = (expert, layer) => {
    const button = element("button", "", swatch(expert));
    button.setAttribute("aria-label", `expert ${expert} of layer ${layer}`);
    button.dataset.expert = expert;
    button.dataset.layer = layer;
    return button;
  };

  // -- tokens ----------------------------------------------------------------------------------------

  function drawOverview() {
    const count = shown();
    overview.hidden = count >= data.count;
    if (overview.hidden) return;
    const width = place.width - place.left, context = pen(overview, place.width, 22);
    const { layer, expert } = { layer: model.get("layer"), expert: model.get("expert") };
    context.fillStyle = theme.ink;
    context.fillText("overview", 2, 11);
    for (let x = 0; x < width; x++) {
      const token = Math.floor((x * data.count) / width), end = Math.max(token + 1, Math.floor(((x + 1) * data.count) / width));
      let used = 0;
      for (let t = token; t < end && expert >= 0; t++) if (data.slot(t, layer, expert) >= 0) used++;
      context.globalAlpha = keep[token] ? 1 : 0.2;
      context.fillStyle = css(expert < 0 ? data.palette[data.at(token, layer, model.get("group"))] : theme.ramp(used / (end - token)));
      context.fillRect(place.left + x, 3, 1, 16);
    }
    context.globalAlpha = 1;
    context.strokeStyle = theme.ink;
    context.lineWidth = 2;
    context.strokeRect(place.left + (from * width) / data.count, 1, Math.max(4, (count * width) / data.count), 20);
  }

  const scales = { margin: 1, entropy: 1, surprisal: 1 };
  let nodes = []; // of the tokens in the window
  function buildStrip() {
    const count = shown(), end = from + count, parts = [];
    nodes = [];
    for (let token = from; token < end; token++) {
      if (token === from || data.starts.includes(token)) {
        const part = element("div", "", ...(data.documents.length > 1 ? [element("h5", "", data.label(token))] : []));
        part.setAttribute("role", "presentation");
        parts.push(part);
      }
      const piece = data.pieces[token], node = element("span", `token ${SPANS[data.kind[token]]}`, piece);
      if (/^(<.+>|\[unused\d+\])$/.test(piece)) node.classList.add("special");
      node.setAttribute("role", "option");
      nodes.push(node);
      parts.at(-1).append(node);
      if (piece === "<0x0A>") parts.at(-1).append(element("br"));
    }
    strip.classList.toggle("many", parts.length > 1);
    strip.replaceChildren(...parts);
    paintStrip();
  }
  /** Bring a token into sight within the strip; the page stays where it is. */
  function reveal(token) {
    const node = nodes[token - from];
    if (!node) return;
    const top = node.offsetTop, end = top + node.offsetHeight + 12;
    if (top < strip.scrollTop) strip.scrollTop = top - 6;
    else if (end > strip.scrollTop + strip.clientHeight) strip.scrollTop = end - strip.clientHeight;
  }
  function paintStrip() {
    const layer = model.get("layer"), group = model.get("group"), colour = model.get("colour"), got = colour === "margin" || colour === "entropy" ? ofLayer(layer) : null;
    const values = { margin: (token) => marginOf(layer, token, group), entropy: (token) => (got.entropy && token < got.tokens ? got.entropy[token] : NaN), surprisal: (token) => data.bits[token] }[colour];
    if (values && colour !== "entropy") {
      scales[colour] = 0;
      for (let token = 0; token < data.count; token++) if (values(token) > scales[colour]) scales[colour] = values(token);
    }
    for (const [place, node] of nodes.entries()) {
      const token = from + place;
      let rgb = null, number = "";
      if (!values) {
        const expert = data.at(token, layer, group);
        rgb = data.palette[expert];
        number = String(expert);
      } else if (Number.isFinite(values(token))) rgb = theme.ramp(values(token) / (scales[colour] || 1));
      const shade = rgb ? `background:${css(rgb)};color:${onTop(rgb)}` : "", out = !keep[token];
      if (node.shade !== shade) node.style.cssText = node.shade = shade;
      if (node.number !== number) node.dataset.number = node.number = number;
      if (node.out !== out) node.classList.toggle("out", (node.out = out));
    }
    drawLegend(colour, layer, group);
  }
  function drawLegend(colour, layer, group) {
    if (colour === "group") {
      const first = data.grouped ? group * data.size : 0, experts = Array.from({ length: Math.min(16, data.size) }, (_, n) => first + n);
      legend.replaceChildren(`layer ${layer}, experts:`, ...experts.map((expert) => swatch(expert)));
    } else {
      const needed = { margin: "router_logits", entropy: "router_logits", surprisal: "chosen_logprobs" }[colour];
      const words = { margin: `0 to ${scales.margin.toFixed(3)}: lead over the second in group ${group}, layer ${layer}`, entropy: `0, certain, to 1, uniform; H(p) / ln ${data.experts}, layer ${layer}`, surprisal: `0 to ${scales.surprisal.toFixed(1)} bits; −log₂ of the probability the token was given` }[colour];
      const scale = element("canvas");
      const context = pen(scale, 90, 10);
      for (let x = 0; x < 90; x++) { context.fillStyle = css(theme.ramp(x / 89)); context.fillRect(x, 0, 1, 10); }
      legend.replaceChildren(...(data.missing.includes(needed) ? [`this trace has no ${needed}`] : [scale, words]));
    }
    if (data.kind.some((kind, token) => kind && token < data.count)) legend.append(" · dotted: thinking, solid: answer");
  }
  // -- layers × experts ------------------------------------------------------------------------------

  let grid = { left: 88, top: 16, cell: 8, row: 12, gap: 4 }; // of the load
  const expertLeft = (expert) => grid.left + expert * grid.cell + data.group(expert) * grid.gap;
  const domainTop = () => grid.top + data.layers * grid.row + 20;
  function hatch(context, colour) {
    const tile = new OffscreenCanvas(6, 6), line = tile.getContext("2d");
    line.strokeStyle = colour;
    line.globalAlpha = 0.5;
    for (const shift of [-6, 0, 6]) { line.moveTo(shift, 6); line.lineTo(shift + 6, 0); }
    line.stroke();
    return context.createPattern(tile, "repeat");
  }
  let loadTop = 1, hatching = null;
  function drawLoad() {
    const width = widthOf(loadLeft) || 600, gap = data.groups > 1 ? 4 : 0;
    grid = { left: 88, top: 16, gap, cell: Math.max(3, Math.floor((width - 88 - gap * data.groups) / data.experts)), row: limit(Math.floor(330 / data.layers), 7, 22) };
    const many = data.labels.length > 1, height = grid.top + data.layers * grid.row + (many ? 20 + data.labels.length * 18 : 0) + 30;
    const context = pen(load.canvas, width, height);
    pen(load.over, width, height);
    load.canvas.dataset.geometry = JSON.stringify(grid);
    hatching = { "#000": hatch(context, "#000"), "#fff": hatch(context, "#fff") };
    loadTop = 2 * chance();
    for (let n = 0; n < counts.length; n++) loadTop = Math.max(loadTop, counts[n] / Math.max(1, kept));
    context.fillStyle = theme.ink;
    context.textAlign = "center";
    if (data.groups > 1) for (let group = 0; group < data.groups; group++) context.fillText(data.size * grid.cell > 44 ? `group ${group}` : group, expertLeft(group * data.size) + (data.size * grid.cell) / 2, 7);
    context.textAlign = "right";
    const every = Math.ceil(12 / grid.row);
    for (let layer = 0; layer < data.layers; layer++) {
      const top = grid.top + layer * grid.row;
      context.fillStyle = theme.ink;
      if (layer % every === 0) context.fillText(`layer ${layer}`, grid.left - 6, top + grid.row / 2);
    }
    drawCells(context, grid.top, grid.row, data.layers, share, isBeyond);
    legendOf(context, height - 26);
    loadNote.textContent = !kept ? NONE : `Share of ${counted(kept)} in which the expert is used. ${others() ? `Hatched: not beyond a random choice of ${kept} of all ${counted(data.count)} (exact hypergeometric` : `Hatched: ${band[0]} to ${band[1]} uses, which uniform routing of ${counted(kept)} gives as well (exact binomial`}, 95 % for all ${counts.length} cells together). ${data.grouped ? "A group's experts add up to 100 % by construction. " : ""}Tokens of one text are not independent: a mark is a hint.`;
  }
  /** Rows of cells, an expert each; hatched where they are not beyond chance, as one picture: cells one by one take four times as long. */
  function drawCells(context, top, height, rows, shareOf, marked) {
    const image = new ImageData(data.experts, rows), pixels = new Uint32Array(image.data.buffer);
    const hatched = { "#000": new Path2D(), "#fff": new Path2D() }; // by the colour of the hatching
    for (let row = 0; row < rows; row++) {
      let ink = null, start = 0; // of a run that is hatched alike
      const end = (expert) => { if (ink) hatched[ink].rect(expertLeft(start), top + row * height, expertLeft(expert - 1) + grid.cell - expertLeft(start), height); };
      for (let expert = 0; expert < data.experts; expert++) {
        const step = Math.round(limit(shareOf(row, expert) / loadTop, 0, 1) * 255), next = marked(row, expert) ? null : theme.inks[step];
        pixels[row * data.experts + expert] = theme.pixels[step];
        if (next !== ink || expert % data.size === 0) { end(expert); [ink, start] = [next, expert]; }
      }
      end(data.experts);
    }
    const buffer = new OffscreenCanvas(data.experts, rows);
    buffer.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    for (let first = 0; first < data.experts; first += data.size) context.drawImage(buffer, first, 0, data.size, rows, expertLeft(first), top, data.size * grid.cell, rows * height);
    for (const [ink, path] of Object.entries(hatched)) {
      context.fillStyle = hatching[ink];
      context.fill(path);
    }
    context.fillStyle = theme.paper;
    for (let row = 1; row <= rows; row++) context.fillRect(grid.left, top + row * height - 1, expertLeft(data.experts) - grid.left, 1);
    if (grid.cell > 5) for (let expert = 0; expert < data.experts; expert++) context.fillRect(expertLeft(expert) + grid.cell - 1, top, 1, rows * height);
  }
  function legendOf(context, y) {
    const wide = Math.min(200, 10 * grid.cell + 120);
    for (let x = 0; x < wide; x++) { context.fillStyle = css(theme.ramp(x / wide)); context.fillRect(grid.left + x, y, 1, 9); }
    const at = grid.left + (chance() / loadTop) * wide;
    context.fillStyle = theme.ink;
    context.fillRect(at, y - 3, 1.5, 15);
    context.textAlign = "left";
    context.fillText("0", grid.left, y + 18);
    context.fillText(`chance ${percent(chance())}`, at - 4, y + 18);
    context.fillText(percent(loadTop), grid.left + wide + 4, y + 5);
    if (data.grouped === false && data.groups > 1) context.fillText("not one expert of each group", grid.left + wide + 60, y + 5);
  }
  let domainRows = { layer: -1 };
  function drawDomains(layer) {
    if (data.labels.length < 2 || (domainRows.layer === layer && domainRows.counts === counts)) return;
    domainRows = { layer, counts };
    const context = load.canvas.getContext("2d"), top = domainTop();
    context.fillStyle = theme.paper;
    context.fillRect(0, top - 19, load.canvas.width, data.labels.length * 18 + 19);
    context.fillStyle = theme.ink;
    context.textAlign = "left";
    context.fillText(`layer ${layer}, by domain`, grid.left, top - 9);
    context.textAlign = "right";
    for (const [number, { label, count, tokens, low, high }] of byDomain(layer, data.experts).entries()) {
      context.fillStyle = theme.ink;
      context.fillText(label.length > 13 ? `${label.slice(0, 12)}…` : label, grid.left - 6, top + number * 18 + 9);
      drawCells(context, top + number * 18, 18, 1, (_, expert) => count[expert] / Math.max(1, tokens), (_, expert) => count[expert] < low || count[expert] > high);
    }
  }
  /** Every domain's uses of a layer's experts, whatever the domain filter says. */
  let domainMasks = null;
  function byDomain(layer, cells) {
    if (domainMasks?.counts !== counts) domainMasks = { counts, masks: data.labels.map(filtered) };
    return data.labels.map((label, number) => {
      const mask = domainMasks.masks[number], tokens = mask.reduce((sum, value) => sum + value, 0);
      const [low, high] = uniformBand(tokens, chance(), data.labels.length * cells);
      return { label, tokens, count: countLayer(layer, mask), low, high };
    });
  }

  let preferred = []; // experts of the selected layer
  function drawRank() {
    const layer = model.get("layer"), against = others();
    const rows = Array.from({ length: data.experts }, (_, expert) => ({ expert, share: share(layer, expert), base: base(layer, expert) }));
    rows.sort((a, b) => b.share - b.base - (a.share - a.base) || a.expert - b.expert);
    preferred = rows.map((row) => row.expert);
    const wanted = model.get("search") || [model.get("domain"), model.get("span"), model.get("phase")].filter((name) => name !== "all").join(", ");
    if (!kept) return refill(rank, map.canvas, element("p", "", NONE));
    refill(
      rank,
      map.canvas,
      element("p", "", `Layer ${layer}, ${wanted ? `${counted(kept)} (${KINDS.find(([, value]) => value && value === wanted)?.[0] || wanted})` : `${kept === 1 ? "" : "all "}${counted(kept)}`}: preferred experts`),
      tableOf(["expert", "group", "share", against ? "others" : "chance", "beside chance"], rows.slice(0, 8).map((row) => [expertButton(row.expert, layer), data.group(row.expert), percent(row.share), percent(row.base), verdictOf(layer, row.expert)])),
    );
  }
  // -- the expert's tokens ---------------------------------------------------------------------------

  /** The kept tokens that use an expert. */
  function usersOf(layer, expert) {
    const users = [];
    for (let token = 0; token < data.count; token++) {
      const slot = keep[token] ? data.slot(token, layer, expert) : -1;
      if (slot >= 0) users.push({ token, weight: weightOf(layer, token, slot) });
    }
    return users;
  }
  const byWeight = (users) => (Number.isFinite(users[0]?.weight) ? [...users].sort((a, b) => b.weight - a.weight || a.token - b.token) : users);
  let cardShown = "", cardDue = false;
  function showExpert(layer, expert) {
    const first = expert < 0; // nothing is pointed at or kept: the most preferred
    if (first && busy) return schedule("hover");
    if (first) expert = preferred[0];
    const got = ofLayer(layer), version = `${first} ${layer} ${expert} ${got.tokens} ${data.count}`;
    if (cardShown === version && card.counts === counts) return;
    cardShown = version;
    card.counts = counts;
    if (!kept) return refill(card, map.canvas, element("p", "soft", NONE));
    const users = usersOf(layer, expert), weighted = Number.isFinite(users[0]?.weight);
    const parts = [element("p", "", first ? "Most preferred: layer " : "Layer ", element("b", "", String(layer)), ", expert ", swatch(expert), data.grouped ? ` of group ${data.group(expert)}` : "", `: ${users.length} of ${counted(kept)}, ${percent(users.length / Math.max(1, kept))}. ${others() ? `Other tokens ${percent(sharedByOthers(layer, expert))}; ` : `Uniform routing: ${percent(chance())}, ${band[0]} to ${band[1]} uses; `}`, verdictOf(layer, expert), " what chance gives.")];
    const lists = element("div", "lists"), near = (start, end, owner) => { let text = ""; for (let t = Math.max(0, start); t < Math.min(data.count, end); t++) if (data.owner[t] === owner) text += data.pieces[t]; return text.replaceAll("<0x0A>", "⏎"); };
    const context = ({ token }) => {
      const button = element("button", "", near(token - 4, token, data.owner[token]), element("b", "", near(token, token + 1, data.owner[token])), near(token + 1, token + 5, data.owner[token]));
      button.dataset.token = token;
      return button;
    };
    if (!users.length) lists.append(element("p", "soft", `No token${kept < data.count ? " that passes the filters" : ""} uses it.`));
    else lists.append(tableOf([weighted ? "weight" : "token", `its tokens, ${weighted ? "most weighted first" : `in order${data.missing.includes("routing_weights") ? "; no routing_weights" : ""}`}`], byWeight(users).slice(0, LIST).map((user) => [weighted ? user.weight.toFixed(3) : data.within(user.token), context(user)]), [1]));
    const words = new Map(), all = new Map();
    for (const { token } of users) words.set(data.pieces[token], (words.get(data.pieces[token]) || 0) + 1);
    for (let token = 0; token < data.count; token++) if (keep[token] && words.has(data.pieces[token])) all.set(data.pieces[token], (all.get(data.pieces[token]) || 0) + 1);
    if (users.length) lists.append(tableOf(["piece", "uses it"], [...words].sort((a, b) => b[1] - a[1]).slice(0, 8).map(([piece, n]) => [quoted(piece), `${n} of ${all.get(piece)}`]), [0]));
    if (data.labels.length > 1) lists.append(tableOf(["domain", "share", "", "beside chance"], byDomain(layer, 1).map(({ label, tokens, count, low, high }) => [label, percent(count[expert] / tokens), track(count[expert] / Math.max(1, tokens)), verdict(count[expert] < low || count[expert] > high, count[expert] > high)])));
    if (users.length) lists.append(partnersOf(users, layer, expert));
    parts.push(lists);
    refill(card, map.canvas, ...parts);
  }
  const track = (value) => {
    const bar = element("i"), line = element("b"), node = element("span", "track", bar, line);
    bar.style.width = `${100 * value}%`;
    line.style.left = `${100 * chance()}%`;
    return node;
  };
  function partnersOf(users, layer, expert) {
    const size = data.experts / data.obeyed_groups, chosen = data.slots / data.obeyed_groups; // of the groups that choices keep to
    const within = ((chosen - 1) * size) / (chosen * Math.max(1, size - 1)); // pairs of one group are rarer, or impossible
    const together = new Uint32Array(data.experts), list = [];
    for (const { token } of users) for (let slot = 0; slot < data.slots; slot++) together[data.at(token, layer, slot)]++;
    for (let other = 0; other < data.experts; other++) {
      const count = counts[layer * data.experts + other], same = Math.floor(other / size) === Math.floor(expert / size);
      if (!count || other === expert || (same && !within)) continue;
      list.push({ other, same, count, together: together[other], lift: (together[other] * kept) / (users.length * count * (same ? within : 1)) });
    }
    const rows = list.map((row) => ({ ...row, marked: !row.same && beyondOthers(row.together, row.count, users.length, kept, list.length) }));
    rows.sort((a, b) => b.marked * (b.lift > 1) - a.marked * (a.lift > 1) || b.lift - a.lift || a.other - b.other);
    return tableOf(["partner", "lift", "together", "beside chance"], rows.slice(0, 6).map((row) => [expertButton(row.other, layer), fixed(row.lift, 2), row.together, verdict(row.marked, row.lift > 1)]));
  }

  // -- the token's router ----------------------------------------------------------------------------

  /** The experts that would be chosen without groups. */
  const globalTop = (probability) => new Set([...probability.keys()].sort((a, b) => probability[b] - probability[a]).slice(0, data.slots));
  let routerShown = "";
  function showToken(token, layer, expert) {
    const first = token < 0; // nothing is pointed at or kept
    if (first) token = Math.max(0, keep.indexOf(1));
    if (first && busy) return schedule("hover");
    const known = probabilities(layer, token) !== null, outlined = data.slot(token, layer, expert) >= 0 ? expert : -1;
    const version = `${first} ${token} ${layer} ${outlined} ${known} ${ofLayer(layer).tokens > token} ${absent.size} ${widthOf(details.body)}`;
    if (routerShown === version) return;
    routerShown = version;
    caption.replaceChildren("Token ", element("b", "", String(data.within(token))), " ", element("code", "", quoted(data.pieces[token])), data.documents.length > 1 ? ` of ${data.label(token)}` : "", `, layer ${layer}: ${data.grouped ? "one winner of each group" : `${data.slots} winners`}${first ? " (move over another)" : ""}`);
    const probability = probabilities(layer, token), top = probability ? globalTop(probability) : null;
    bars.hidden = barsNote.hidden = !probability;
    if (probability) drawBars(probability, token, layer, top, expert);
    const table = tableOf(["group", "expert", "probability", explained("margin", `The winner's probability less that of the best loser${data.grouped ? " of its group" : ""}.`), explained("router_scale", "A factor that the model learned for this expert: weight = probability × router_scale."), "weight", explained(`top-${data.slots}`, `Whether a top-${data.slots} of all experts, without groups, would take it.`)], Array.from({ length: data.slots }, (_, slot) => {
      const winner = data.at(token, layer, slot), scale = data.scale(token, layer, winner);
      return [slot, expertButton(winner, layer), probability ? percent(probability[winner], 2) : "–", fixed(marginOf(layer, token, slot), 4), fixed(scale, 3), fixed(weightOf(layer, token, slot), 4), probability ? (top.has(winner) ? "yes" : "no") : "–"];
    }));
    for (const [slot, row] of [...table.tBodies[0].rows].entries()) row.classList.toggle("current", data.at(token, layer, slot) === expert);
    refill(winners, map.canvas, table);
    if (!probability) {
      counterfactual.textContent = data.missing.includes("router_logits") ? "This trace has no router_logits: no probabilities, margins and global top." : absent.has(`block ${layer} ${Math.floor(token / data.block)}`) ? "This saved page does not hold this layer's probabilities." : "asking for the probabilities…";
      return;
    }
    const chosen = Array.from({ length: data.slots }, (_, slot) => data.at(token, layer, slot)), mass = (list) => list.reduce((sum, e) => sum + probability[e], 0);
    const instead = [...top].filter((e) => !chosen.includes(e)), lost = chosen.filter((e) => !top.has(e));
    counterfactual.textContent = `Without groups, a top-${data.slots} would take ${instead.length ? `${instead.join(", ")} instead of ${lost.join(", ")}` : "the same experts"}: ${data.slots - instead.length} of ${data.slots} agree; probability ${percent(mass(chosen))} as chosen, ${percent(mass([...top]))} then. Uniform: ${percent(1 / data.experts)} an expert.`;
  }
  function drawBars(probability, token, layer, top, expert) {
    const width = widthOf(details.body) || 460, height = 112, floor = 98, gap = 7;
    const context = bars.style.width === `${width}px` ? wipe(bars) : pen(bars, width, height), step = (width - 4 - gap * data.groups) / data.experts;
    const most = Math.max(...probability, 3 / data.experts), y = (value) => floor - (value / most) * 74;
    context.textAlign = "center";
    for (let e = 0; e < data.experts; e++) {
      const x = 2 + e * step + data.group(e) * gap, wins = data.slot(token, layer, e) >= 0;
      context.globalAlpha = wins ? 1 : 0.5;
      context.fillStyle = data.colours[e];
      context.fillRect(x, y(probability[e]), step - 1, floor - y(probability[e]));
      context.globalAlpha = 1;
      context.fillStyle = theme.ink;
      if (wins) {
        context.strokeStyle = e === expert ? theme.mark : theme.ink;
        context.lineWidth = e === expert ? 3 : 1.5;
        context.strokeRect(x, y(probability[e]), step - 1, floor - y(probability[e]));
        context.font = "bold 10px system-ui, sans-serif";
        context.fillText(e, x + step / 2, y(probability[e]) - 13);
      }
      if (top.has(e)) { context.beginPath(); context.arc(x + step / 2 - 0.5, y(probability[e]) - 5, 2, 0, 7); context.fill(); }
    }
    context.fillStyle = theme.ink;
    context.font = "10px system-ui, sans-serif";
    for (let group = 0; group < data.groups && data.groups > 1; group++) context.fillText(step * data.size > 42 ? `group ${group}` : group, 2 + (group + 0.5) * data.size * step + group * gap, floor + 8);
    context.setLineDash([3, 3]);
    context.strokeStyle = theme.ink;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(0, y(1 / data.experts));
    context.lineTo(width, y(1 / data.experts));
    context.stroke();
    context.setLineDash([]);
    barsNote.textContent = `Outlined: winner; dot: in the global top-${data.slots}; dashed: uniform, ${percent(1 / data.experts)}; highest ${percent(most)}.`;
  }

  // -- layers × tokens × groups ----------------------------------------------------------------------

  const layerTop = (layer) => layer * (data.slots * place.row + place.gap);
  function drawMap() {
    const count = shown(), rows = data.layers * data.slots, height = layerTop(data.layers);
    const context = pen(map.canvas, place.width, height);
    pen(map.over, place.width, height);
    range.textContent = count < data.count ? `tokens ${from} to ${from + count - 1} of ${data.count}; drag the overview of the tokens, or turn the wheel with Shift` : `${counted(data.count)}; a row per group, hue is the group, lightness and number the expert in it`;
    map.canvas.dataset.geometry = JSON.stringify({ ...place, cell, from, count });
    if (!count) return;
    const solid = new Uint32Array(data.experts), pale = new Uint32Array(data.experts);
    for (let expert = 0; expert < data.experts; expert++) {
      solid[expert] = pixel(data.palette[expert]);
      pale[expert] = pixel(data.palette[expert].map((value, c) => Math.round(0.15 * value + 0.85 * theme.rgb[c])));
    }
    const image = new ImageData(count, rows), pixels = new Uint32Array(image.data.buffer);
    for (let column = 0; column < count; column++) {
      const token = from + column, colours = keep[token] ? solid : pale;
      let source = token * rows;
      for (let row = 0; row < rows; row++) pixels[row * count + column] = colours[data.chosen[source++]];
    }
    const buffer = new OffscreenCanvas(count, rows);
    buffer.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    const every = Math.ceil(13 / (data.slots * place.row + place.gap));
    for (let layer = 0; layer < data.layers; layer++) {
      const top = layerTop(layer);
      context.drawImage(buffer, 0, layer * data.slots, count, data.slots, place.left, top, count * cell, data.slots * place.row);
      context.fillStyle = theme.ink;
      if (layer % every === 0) {
        context.textAlign = "left";
        context.fillText(`layer ${layer}`, 2, top + Math.max(6, (data.slots * place.row) / 2));
      }
      if (place.row >= 8) {
        context.textAlign = "right";
        context.font = "8px system-ui, sans-serif";
        for (let slot = 0; slot < data.slots; slot++) context.fillText(slot, place.left - 4, top + (slot + 0.5) * place.row + 0.5);
        context.font = "11px system-ui, sans-serif";
      }
    }
    if (cell >= 14 && place.row >= 8) {
      context.textAlign = "center";
      context.font = "8px system-ui, sans-serif";
      for (let column = 0; column < count; column++) {
        if (!keep[from + column]) continue;
        for (let layer = 0; layer < data.layers; layer++)
          for (let slot = 0; slot < data.slots; slot++) {
            const expert = data.at(from + column, layer, slot);
            context.fillStyle = data.inks[expert];
            context.fillText(expert, place.left + (column + 0.5) * cell, layerTop(layer) + (slot + 0.5) * place.row + 0.5);
          }
      }
    }
    context.fillStyle = theme.paper;
    if (cell >= 6) for (let column = 1; column < count; column++) context.fillRect(place.left + column * cell - 0.5, 0, 1, height);
    context.fillStyle = theme.ink;
    for (const start of data.starts) if (start > from && start < from + count) context.fillRect(place.left + (start - from) * cell - 1, 0, 2, height);
  }

  // -- marks over all panels -------------------------------------------------------------------------

  /** What moves with the pointer: marks over the canvases, the token's router, the expert's card. */
  function mark() {
    const { token, layer, expert } = current(), fixed = pinned();
    const over = wipe(map.over), count = shown();
    const outline = (context, colour, width, x, y, w, h) => { context.strokeStyle = colour; context.lineWidth = width; context.strokeRect(x, y, w, h); };
    if (expert >= 0) {
      over.fillStyle = theme.ink;
      for (let column = 0; column < count; column++) {
        const slot = data.slot(from + column, layer, expert);
        if (slot < 0) continue;
        const x = place.left + column * cell, y = layerTop(layer) + slot * place.row;
        if (place.row >= 4 && cell >= 4) { outline(over, theme.paper, 3, x, y, cell, place.row); outline(over, theme.ink, 1.5, x, y, cell, place.row); }
        else if (place.row >= 4) over.fillRect(x, y, Math.max(2, cell), place.row);
        else over.fillRect(x, layerTop(layer), Math.max(1, cell - 1), data.slots * place.row);
      }
    }
    over.fillStyle = theme.mark;
    over.fillRect(place.left - 2, layerTop(layer), 2, data.slots * place.row);
    for (const [which, colour] of [[fixed, theme.mark], [token, theme.ink]])
      if (which >= from && which < from + count) outline(over, colour, 2, place.left + (which - from) * cell, 1, Math.max(2, cell), layerTop(data.layers) - 2);
    drawDomains(layer);
    const above = wipe(load.over), top = grid.top + layer * grid.row;
    outline(above, theme.mark, 1, grid.left - 2, top - 1, expertLeft(data.experts - 1) + grid.cell - grid.left + 3, grid.row + 1);
    if (expert >= 0) {
      outline(above, theme.ink, 2, expertLeft(expert) - 1, top - 1, grid.cell + 1, grid.row + 1);
      if (data.labels.length > 1) outline(above, theme.ink, 1.5, expertLeft(expert) - 1, domainTop() - 1, grid.cell + 1, data.labels.length * 18 + 1);
    } else if (token >= 0) for (let slot = 0; slot < data.slots; slot++) outline(above, theme.ink, 1, expertLeft(data.at(token, layer, slot)), top, grid.cell - 1, grid.row - 1);
    for (const [place, node] of nodes.entries()) {
      const which = from + place, user = expert >= 0 && data.slot(which, layer, expert) >= 0;
      if (node.user !== user) node.classList.toggle("user", (node.user = user));
      if (node.near !== (which === hover?.token)) node.classList.toggle("hover", (node.near = which === hover?.token));
      if (node.fixed !== (which === fixed)) node.setAttribute("aria-selected", String((node.fixed = which === fixed)));
    }
    // While the pointer moves, the router and the card are drawn in turn, one a frame.
    const before = routerShown, turn = hover && cardDue;
    if (!turn) showToken(token, layer, expert);
    cardDue = Boolean(hover) && before !== routerShown;
    if (!cardDue) showExpert(layer, expert);
    if (turn || cardDue) schedule("hover");
    const used = expert >= 0 ? ` · expert ${expert} (group ${data.group(expert)}): ${counts[layer * data.experts + expert]} of ${counted(kept)}, ${percent(share(layer, expert))}; ${others() ? `of the others ${percent(sharedByOthers(layer, expert))}` : `uniform routing ${percent(chance())}`}: ${verdictOf(layer, expert).textContent} what chance gives` : "";
    readout.textContent = `${token >= 0 ? `${data.documents.length > 1 ? `${data.label(token)}, ` : ""}token ${data.within(token)} ${quoted(data.pieces[token])} · ` : ""}layer ${layer}${used}`;
  }

  // -- tables of the panels ---------------------------------------------------------------------------------

  const keptTokens = () => { const list = []; for (let token = 0; token < data.count; token++) if (keep[token]) list.push(token); return list; };
  const put = (holder, head, rows, total, texts) => holder.replaceChildren(...(total > rows.length ? [element("p", "soft", `The first ${rows.length} of ${total} rows; view.table(…) gives all of them.`)] : []), tableOf(head, rows, texts));
  function tokenTable(holder) {
    const layer = model.get("layer"), group = model.get("group"), list = keptTokens(), got = ofLayer(layer);
    put(holder, ["document", "token", "piece", "span", "phase", "surprisal, bits", `expert of group ${group}`, "margin", "entropy"], list.slice(0, ROWS).map((token) => [data.label(token), data.within(token), data.pieces[token], SPANS[data.kind[token]], data.decode[token] ? "decode" : "prefill", fixed(data.bits[token], 2), data.at(token, layer, group), fixed(marginOf(layer, token, group), 4), fixed(got.entropy?.[token], 4)]), list.length, [0, 2]);
  }
  function mapTable(holder) {
    const list = keptTokens().filter((token) => token >= from && token < from + shown()), rows = [];
    for (const token of list) for (let layer = 0; layer < data.layers && rows.length < ROWS; layer++) rows.push([data.label(token), data.within(token), data.pieces[token], layer, ...Array.from({ length: data.slots }, (_, slot) => data.at(token, layer, slot))]);
    put(holder, ["document", "token", "piece", "layer", ...Array.from({ length: data.slots }, (_, slot) => `group ${slot}`)], rows, list.length * data.layers, [0, 2]);
  }
  function loadTable(holder) {
    const rows = [], first = model.get("layer"), order = [first, ...Array.from({ length: data.layers }, (_, n) => n).filter((n) => n !== first)];
    for (const layer of order) for (let expert = 0; expert < data.experts && rows.length < ROWS; expert++) rows.push([layer, expert, data.group(expert), counts[layer * data.experts + expert], percent(share(layer, expert)), (share(layer, expert) / chance()).toFixed(2), kept < data.count ? percent(sharedByOthers(layer, expert)) : "–", verdictOf(layer, expert)]);
    put(holder, ["layer", "expert", "group", "count", "share", "load ratio", "others", "beside chance"], rows, counts.length);
  }

  function expertTable(holder) {
    const { layer, expert } = { layer: model.get("layer"), expert: model.get("expert") }, users = expert < 0 ? [] : byWeight(usersOf(layer, expert));
    if (expert < 0) return holder.replaceChildren(element("p", "soft", "No expert is kept: click one."));
    put(holder, ["document", "token", "piece", "weight"], users.slice(0, ROWS).map(({ token, weight }) => [data.label(token), data.within(token), data.pieces[token], fixed(weight, 4)]), users.length, [0, 2]);
  }
  function routerTable(holder) {
    const layer = model.get("layer"), token = pinned(), probability = token < 0 ? null : probabilities(layer, token);
    if (token < 0) return holder.replaceChildren(element("p", "soft", "No token is kept: click one."));
    const top = probability ? globalTop(probability) : null;
    const rows = Array.from({ length: data.experts }, (_, expert) => [data.group(expert), expert, probability ? percent(probability[expert], 2) : "–", fixed(data.scale(token, layer, expert), 3), yesNo(data.slot(token, layer, expert) >= 0), top ? yesNo(top.has(expert)) : "–"]);
    put(holder, ["group", "expert", "probability", "router_scale", "winner", `global top-${data.slots}`], rows, rows.length);
  }

  // -- what changes, and when it is drawn: at most once a frame -----------------------------------------------

  const dirty = new Set();
  let busy = false; // this frame recounts: what stands in for a selection is drawn in the next
  const schedule = (...what) => {
    if (!dirty.size) requestAnimationFrame(flush);
    what.forEach((name) => dirty.add(name));
  };
  function flush() {
    const todo = new Set(dirty);
    dirty.clear();
    if (!todo.size || !data || !root.isConnected) return;
    wanted = new Map();
    busy = todo.has("filter");
    if (!theme || todo.has("theme")) readTheme();
    const all = todo.has("all");
    if (all || todo.has("filter")) recount();
    if (all || todo.has("filter") || todo.has("select") || todo.has("colour")) controls.forEach((control) => control.update());
    if (searched !== model.get("search")) showSearch();
    if (all) {
      for (const box of [pair, strips.body, maps.body, loads.body]) box.hidden = !data.count;
      summary.textContent = data.count ? `${counted(data.count)} · ${data.layers} layers · ${data.experts} experts${data.groups > 1 ? ` in ${data.groups} groups` : ""}${data.documents.length > 1 ? ` · ${data.documents.length} texts` : ""}` : "waiting for the first tokens…";
      const lost = Object.entries(LOST).filter(([name]) => data.missing.includes(name)).map(([, words]) => words);
      warning.textContent = `This trace has no ${data.missing.join(", no ")}${lost.length ? `: choices and loads are shown, ${lost.join(", ")} are not` : ""}.`;
      status.textContent = data.error || "";
    }
    halt.hidden = !model.get("running");
    warning.hidden = !data.missing.length || !data.count || model.get("running"); // what is missing may still come
    if (!data.count) return;
    if (all) measure();
    if (model.get("running") && pinned() < 0 && todo.has("more")) from = Math.max(0, data.count - shown());
    const token = pinned();
    let moved = all || todo.has("more");
    if (todo.has("select") && token >= 0 && (token < from || token >= from + shown())) { from = limit(token - Math.floor(shown() / 2), 0, data.count - shown()); moved = true; }
    if (moved || todo.has("filter") || todo.has("theme")) drawMap();
    if (moved || todo.has("filter") || todo.has("select") || todo.has("colour") || todo.has("theme")) drawOverview();
    if (moved) buildStrip();
    else if (todo.has("filter") || todo.has("select") || todo.has("colour") || todo.has("layer") || todo.has("theme")) paintStrip();
    if (all || todo.has("filter") || todo.has("theme")) { drawLoad(); domainRows.layer = -1; cardShown = ""; }
    if (all || todo.has("theme")) routerShown = "";
    if (all || todo.has("filter") || todo.has("select")) drawRank();
    mark();
    const following = todo.has("more") && model.get("running"), seen = token >= 0 ? token : following ? data.count - 1 : keep.indexOf(1);
    // In the next frame: asked now, it would cost a layout of its own.
    if (todo.has("select") || todo.has("filter") || following) requestAnimationFrame(() => data && reveal(seen));
    settle();
    if (todo.size > 1 || !todo.has("hover")) {
      tables.forEach((build) => build());
      if (todo.has("select")) spoken.textContent = readout.textContent;
    }
  }

  // -- pointer and keys -----------------------------------------------------------------------------------

  const point = (next) => { hover = next; schedule("hover"); };
  const tokenOf = (event) => { const index = nodes.indexOf(event.target.closest?.(".token")); return index < 0 ? -1 : from + index; };
  strip.addEventListener("pointermove", (event) => { const token = tokenOf(event); if (token !== (hover?.token ?? -1)) point(token < 0 ? null : { token }); });
  strip.addEventListener("click", (event) => { const token = tokenOf(event); if (token >= 0) choose({ token }); });
  const spot = (canvas, event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const mapSpot = (event) => {
    const [x, y] = spot(map.canvas, event), column = Math.floor((x - place.left) / cell);
    if (column < 0 || column >= shown()) return null;
    const layer = limit(Math.floor(y / (data.slots * place.row + place.gap)), 0, data.layers - 1);
    const slot = limit(Math.floor((y - layerTop(layer)) / place.row), 0, data.slots - 1);
    return { token: from + column, layer, expert: data.at(from + column, layer, slot) };
  };
  const loadSpot = (event) => {
    const [x, y] = spot(load.canvas, event), group = limit(Math.floor((x - grid.left) / (data.size * grid.cell + grid.gap)), 0, data.groups - 1);
    const expert = group * data.size + limit(Math.floor((x - expertLeft(group * data.size)) / grid.cell), 0, data.size - 1);
    const row = Math.floor((y - grid.top) / grid.row);
    if (x < grid.left || y < grid.top) return null;
    if (row < data.layers) return { layer: row, expert };
    return data.labels.length > 1 && y >= domainTop() && y < domainTop() + 18 * data.labels.length ? { layer: model.get("layer"), expert } : null;
  };
  for (const [canvas, find] of [[map.canvas, mapSpot], [load.canvas, loadSpot]]) {
    canvas.addEventListener("pointermove", (event) => {
      const next = find(event);
      if (next?.token !== hover?.token || next?.layer !== hover?.layer || next?.expert !== hover?.expert) point(next);
    });
    canvas.addEventListener("click", (event) => { const found = find(event); if (found) choose(found); });
  }
  for (const node of [strip, map.canvas, load.canvas, card]) node.addEventListener("pointerleave", () => hover && point(null));
  root.addEventListener("click", (event) => {
    const button = event.target.closest("td button");
    if (button?.dataset.expert) choose({ expert: Number(button.dataset.expert), layer: Number(button.dataset.layer) });
    else if (button?.dataset.token) choose({ token: Number(button.dataset.token) });
  });
  const onKey = (byExpert) => (event) => {
    if (!data) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-data.count, 0], End: [data.count, 0], Escape: [0, 0] }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    hover = null;
    if (event.key === "Escape") return choose({ token: -1, expert: -1 });
    const layer = limit(model.get("layer") + step[1], 0, data.layers - 1);
    if (byExpert) choose({ layer, expert: limit(Math.max(-1, model.get("expert")) + step[0], step[0] ? 0 : -1, data.experts - 1) });
    else choose({ layer, ...(step[0] ? { token: limit(pinned() + step[0], 0, data.count - 1) } : {}) });
  };
  strip.addEventListener("keydown", onKey(false));
  map.canvas.addEventListener("keydown", onKey(false));
  load.canvas.addEventListener("keydown", onKey(true));
  map.canvas.addEventListener("wheel", (event) => {
    const turn = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (!turn || shown() >= data.count) return;
    event.preventDefault();
    scrollTo(from + Math.round(turn / cell / 2) + Math.sign(turn));
  }, { passive: false });
  const drag = (event) => {
    if (!(event.buttons & 1)) return;
    const [x] = spot(overview, event);
    scrollTo(Math.round(((x - place.left) / (place.width - place.left)) * data.count - shown() / 2));
  };
  overview.addEventListener("pointerdown", (event) => { overview.setPointerCapture(event.pointerId); drag(event); });
  overview.addEventListener("pointermove", drag);

  // -- messages -----------------------------------------------------------------------------------------------

  const onMessage = (content, buffers) => {
    if (content.kind === "routing") {
      data = new Tokens(content, buffers);
      [layers, blocks, pending, absent].forEach((kept) => kept.clear());
      totals = null;
      hover = null;
      build();
      dirty.add("all");
      flush();
      root.dataset.ready = "true";
      root.dataset.tokens = data.count;
    } else if (content.kind === "more" && data) {
      if (content.start < data.count) return; // came with everything
      if (content.start > data.count) return page.send({ kind: "want" });
      const first = !data.count;
      data.append(content, buffers);
      root.dataset.tokens = data.count;
      if (first) cell = 0;
      schedule("all", "more");
    } else if (["layer", "block"].includes((content.asked ?? content).kind)) {
      const question = content.asked ?? content; // asked: of what is absent
      pending.delete(key(question));
      if (content.kind === "absent") absent.add(key(question));
      else if (content.kind === "layer") {
        const [weights, entropy, margins] = buffers.map(floats);
        layers.set(content.layer, { weights, entropy, margins, tokens: Math.max(weights.length, margins.length) / data.slots || data.count });
      } else blocks.set(`${content.layer} ${content.block}`, floats(buffers[0]));
      schedule("layer");
    }
  };
  page.on("msg:custom", onMessage);
  page.on(["change:document", "change:token", "change:layer", "change:expert"], () => schedule("select"));
  page.on(["change:group", "change:colour", "change:running"], () => schedule("colour"));
  page.on(["change:domain", "change:span", "change:phase", "change:search", "change:compare"], () => schedule("filter"));
  const tell = () => { doing.textContent = model.get("doing"); };
  page.on("change:doing", tell);
  tell();
  // Only a finished layout is measured: while a theme is loaded, widths are passing ones.
  const sizes = new ResizeObserver((entries) => {
    const changed = new Set();
    for (const { target, contentRect } of entries) {
      const width = Math.floor(contentRect.width), before = widths.get(target) || 0;
      if (!width || Math.abs(width - before) < 2) continue;
      widths.set(target, width);
      changed.add(target);
    }
    if (changed.has(details.body)) schedule("hover");
    if (!changed.has(maps.body) && !changed.has(loadLeft)) return;
    if (data?.count && shown() >= data.count) cell = 0;
    schedule("all");
  });
  for (const node of [maps.body, loadLeft, details.body]) sizes.observe(node);
  // A notebook that draws only what is on screen blanks canvases that scroll away.
  const watcher = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) schedule("theme"); });
  watcher.observe(map.canvas);
  page.onTheme(() => schedule("theme"));
  page.atEnd(() => { sizes.disconnect(); watcher.disconnect(); });
  return page.begin();
}

export default { render };
