/**
 * Heads by a score: a map of layers × heads, a ranking, and every score of the selected head.
 *
 * @typedef Model
 * @property {number} layer     selected layer
 * @property {number} head      selected head
 * @property {string} score     what the colours tell
 * @property {boolean} relative  colours by the share of the way from chance to 1
 * @property {"model"|"score"} layer_order  rows by number, or the highest score first
 * @property {"model"|"score"} head_order   columns by number, or in each layer the highest first
 * @property {boolean} tagged_only  leave heads out that are not tagged with the score
 *
 * Message to Python, besides those of all views: {kind: "want"}.
 * Message from Python: {kind: "heads", model, tokens, texts, layers, heads, kv_heads, measures:
 * [{name, words, pattern, chance, threshold, shuffled, queries, needed}]} with values [measure, layer, head] float32,
 * chances [pattern, layer, head] float32 and tags [pattern, layer, head] uint8; patterns come first.
 */
import { BLUES, luminance } from "../shared/colours.js";
import { element, refill, rootOf, tellGone } from "../shared/dom.js";
import { talk } from "../shared/talk.js";
import { asFloat32, copied, counted, limit } from "../shared/values.js";

const RANKED = 10;
const LEFT = 46, TOP = 22, GAP = 5, WIDEST = 46; // room for labels; between key-value heads; of a cell

const plain = (name) => name.replaceAll("_", " ");

function render({ model, el }) {
  const root = rootOf(el, "pw-heads"), page = talk(model, () => tellGone(root));
  let data = null, grid = null, hover = null, sorted = { column: "", up: false };

  const title = element("div", "row"), bar = element("div", "row"), meaning = element("p", "soft meaning");
  const canvas = element("canvas"), stage = element("div", "stage", canvas);
  const reading = element("p", "reading"), spoken = element("div", "spoken");
  const ranking = element("section", "ranking"), card = element("section", "card"), numbers = element("div", "numbers");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "layers by heads, coloured by the score; arrow keys move the selection; the tables hold the same numbers");
  spoken.setAttribute("aria-live", "polite");
  numbers.hidden = true;
  numbers.tabIndex = 0;
  const left = element("div", "", stage, reading), right = element("div", "", ranking, card);
  const panes = element("div", "two", left, right);
  root.append(title, bar, meaning, panes, numbers, spoken);

  // -- numbers ------------------------------------------------------------------------------------------

  const number = (name) => data.measures.findIndex((measure) => measure.name === name);
  const place = (measure, row, head) => (measure * data.layers.length + row) * data.heads + head;
  const value = (measure, row, head) => data.values[place(measure, row, head)];
  const chance = (measure, row, head) => (data.measures[measure].pattern ? data.chances[place(measure, row, head)] : NaN);
  const above = (measure, row, head) => (value(measure, row, head) - chance(measure, row, head)) / (1 - chance(measure, row, head));
  const tagged = (measure, row, head) => data.measures[measure].pattern && data.tags[place(measure, row, head)] === 1;
  const tagsOf = (row, head) => data.measures.map((m, n) => (tagged(n, row, head) ? plain(m.name) : "")).filter(Boolean).join(", ");
  const current = () => number(model.get("score"));
  const relative = () => model.get("relative") && data.measures[current()].pattern;
  const shown = (row, head) => (relative() ? above : value)(current(), row, head);
  const left_out = (row, head) => model.get("tagged_only") && data.measures[current()].pattern && !tagged(current(), row, head);
  const digits = (measure, x) => (Number.isFinite(x) ? x.toFixed(data.measures[measure].name === "mean_distance" ? 1 : data.measures[measure].name === "entropy_bits" ? 2 : 3) : "–");
  const best = (row) => Math.max(...Array.from({ length: data.heads }, (_, head) => (Number.isFinite(shown(row, head)) ? shown(row, head) : -Infinity)));
  const rows = () => {
    const order = data.layers.map((_, row) => row);
    return model.get("layer_order") === "score" ? order.sort((a, b) => best(b) - best(a) || a - b) : order;
  };
  const heads = (row) => {
    const order = Array.from({ length: data.heads }, (_, head) => head), key = (head) => (Number.isFinite(shown(row, head)) ? shown(row, head) : -Infinity);
    return model.get("head_order") === "score" ? order.sort((a, b) => key(b) - key(a) || a - b) : order;
  };
  const all = () => data.layers.flatMap((_, row) => Array.from({ length: data.heads }, (_, head) => ({ row, head })));

  // -- controls -----------------------------------------------------------------------------------------

  let controls = {};
  function choice(label, name, options) {
    const select = element("select");
    for (const [text, key] of options) select.append(new Option(text, key));
    select.addEventListener("change", () => page.set({ [name]: select.value }));
    controls[name] = select;
    return element("label", "", `${label} `, select);
  }
  function box(label, name) {
    const input = element("input");
    input.type = "checkbox";
    input.addEventListener("change", () => page.set({ [name]: input.checked }));
    controls[name] = input;
    return element("label", "", input, ` ${label}`);
  }
  function build() {
    controls = {};
    const much = `${counted(data.layers.length, "layer")} × ${counted(data.heads, "head")} on ${counted(data.kv_heads, "key–value head")}, ${counted(data.tokens)}${data.texts > 1 ? ` of ${data.texts} texts` : ""}`;
    title.replaceChildren(element("span", "title", `Heads of ${data.model}`), element("span", "soft", much));
    const table = element("button", "plain", "table");
    table.setAttribute("aria-expanded", "false");
    table.addEventListener("click", () => {
      numbers.hidden = !numbers.hidden;
      table.setAttribute("aria-expanded", String(!numbers.hidden));
      showTable();
    });
    bar.replaceChildren(
      choice("score", "score", data.measures.map((m) => [plain(m.name), m.name])),
      choice("layers", "layer_order", [["in order", "model"], ["highest first", "score"]]),
      choice("heads", "head_order", [["in order", "model"], ["highest first", "score"]]),
      box("relative to chance", "relative"), box("tagged only", "tagged_only"), table);
  }

  // -- drawing ------------------------------------------------------------------------------------------

  function theme() {
    const style = getComputedStyle(root), rgb = (text) => (text.match(/[\d.]+/g) || [0, 0, 0]).slice(0, 3).map(Number);
    const probe = element("span");
    probe.style.color = "var(--mark)";
    root.append(probe);
    const mark = getComputedStyle(probe).color;
    probe.style.color = "var(--soft)";
    const soft = getComputedStyle(probe).color;
    probe.remove();
    const stops = BLUES[luminance(rgb(style.backgroundColor)) > 0.5 ? "light" : "dark"].map((hex) => [0, 2, 4].map((c) => parseInt(hex.slice(c, c + 2), 16)));
    const ramp = (share) => {
      const x = limit(share, 0, 1) * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(x));
      return stops[low].map((part, c) => Math.round(part + (x - low) * (stops[low + 1][c] - part)));
    };
    return { ink: style.color, paper: style.backgroundColor, soft, mark, ramp };
  }
  function draw() {
    if (!data || !root.clientWidth) return;
    const sortedHeads = model.get("head_order") === "score", gap = sortedHeads ? 0 : GAP, group = data.heads / data.kv_heads;
    const gaps = data.kv_heads - 1;
    const widest = LEFT + data.heads * WIDEST + gaps * gap + 4, beside = widest + 700 < root.clientWidth;
    panes.style.gridTemplateColumns = beside ? `${widest}px auto auto 1fr` : "";
    if (beside) panes.insertBefore(card, right);
    else (data.layers.length < 11 ? left : right).append(card); // where there is room
    const cell = limit(Math.floor((left.clientWidth - LEFT - 4 - gaps * gap) / data.heads), 9, WIDEST), height = limit(Math.floor(cell * 0.8), 11, 26);
    const order = rows(), wide = LEFT + data.heads * cell + gaps * gap + 4, high = TOP + order.length * height + 34;
    const ratio = window.devicePixelRatio || 1, colours = theme(), pen = canvas.getContext("2d");
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${high}px`;
    pen.scale(ratio, ratio);
    pen.textBaseline = "middle";
    pen.font = "11px system-ui, sans-serif";
    const x = (column) => LEFT + column * cell + Math.floor(column / group) * gap, y = (line) => TOP + line * height;
    const known = all().map(({ row, head }) => shown(row, head)).filter(Number.isFinite), isPattern = data.measures[current()].pattern;
    const top = Math.max(1e-9, ...known), low = isPattern ? 0 : Math.min(top - 1e-9, ...known);
    grid = { cell, height, order, columns: order.map(heads), x, y };
    const numbered = cell >= 34 && height >= 16;
    order.forEach((row, line) => {
      pen.fillStyle = colours.ink;
      pen.textAlign = "right";
      pen.fillText(String(data.layers[row]), LEFT - 8, y(line) + height / 2);
      grid.columns[line].forEach((head, column) => {
        if (left_out(row, head)) {
          pen.strokeStyle = colours.soft;
          pen.globalAlpha = 0.35;
          pen.strokeRect(x(column) + 0.5, y(line) + 0.5, cell - 2, height - 2);
          pen.globalAlpha = 1;
          return;
        }
        const score = shown(row, head), fill = colours.ramp(Number.isFinite(score) ? (score - low) / (top - low) : 0), ink = luminance(fill) > 0.5 ? "#000" : "#fff";
        pen.fillStyle = `rgb(${fill.join(" ")})`;
        pen.fillRect(x(column), y(line), cell - 1, height - 1);
        pen.fillStyle = ink;
        pen.textAlign = "center";
        if (numbered) pen.fillText(sortedHeads ? `h${head}` : Number.isFinite(score) ? (top > 1.5 ? score.toFixed(1) : score.toFixed(2).replace(/^(-?)0\./, "$1.")) : "–", x(column) + cell / 2 - 0.5, y(line) + height / 2);
        if (tagged(current(), row, head)) {
          pen.beginPath();
          if (numbered) pen.arc(x(column) + cell - 6, y(line) + 5, 2.5, 0, 7);
          else pen.arc(x(column) + cell / 2 - 0.5, y(line) + height / 2 - 0.5, 2.5, 0, 7);
          pen.fill();
        }
      });
    });
    pen.fillStyle = colours.ink;
    pen.textAlign = "center";
    const step = cell >= 18 ? 1 : cell >= 12 ? 2 : 4;
    for (let column = 0; column < data.heads; column += step) pen.fillText(sortedHeads ? `${column + 1}.` : String(column), x(column) + cell / 2, TOP / 2 + 2);
    pen.fillStyle = colours.soft;
    pen.textAlign = "right";
    pen.fillText(sortedHeads ? "rank" : "head", LEFT - 8, TOP / 2 + 2);
    pen.save();
    pen.translate(8, y(order.length / 2));
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "center";
    pen.fillText("layer", 0, 0);
    pen.restore();
    pen.textAlign = "left";
    const base = y(order.length) + 16, long = Math.min(140, wide - LEFT - 120);
    for (let step = 0; step < long; step++) {
      pen.fillStyle = `rgb(${colours.ramp(step / long).join(" ")})`;
      pen.fillRect(LEFT + 14 + step, base - 5, 1, 10);
    }
    pen.fillStyle = colours.ink;
    const least = low ? digits(current(), low) : "0";
    pen.textAlign = "right";
    pen.fillText(least, LEFT + 10, base);
    pen.textAlign = "left";
    pen.fillText(`${digits(current(), top)}${isPattern ? "   ● tagged" : ""}${known.length < all().length ? "   –: no score" : ""}`, LEFT + 20 + long, base);
    const ring = (spot, colour, width) => {
      if (!spot) return;
      const line = order.indexOf(spot.row), column = grid.columns[line].indexOf(spot.head);
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.strokeRect(x(column) - 1.5, y(line) - 1.5, cell + 2, height + 2);
    };
    ring(hover, colours.ink, 1.5);
    ring(selected(), colours.mark, 3);
  }
  const selected = () => {
    const row = data.layers.indexOf(model.get("layer"));
    return row < 0 ? null : { row, head: model.get("head") };
  };
  const nameOf = ({ row, head }) => `layer ${data.layers[row]}, head ${head}`;
  function read(spot) {
    if (!spot) return "";
    const measure = current(), parts = [`${nameOf(spot)}: ${plain(data.measures[measure].name)} ${digits(measure, value(measure, spot.row, spot.head))}`];
    if (data.measures[measure].pattern) parts.push(`chance ${digits(measure, chance(measure, spot.row, spot.head))}`);
    return `${parts.join(", ")}${tagsOf(spot.row, spot.head) ? ` · tagged ${tagsOf(spot.row, spot.head)}` : ""}`;
  }

  // -- words and tables ---------------------------------------------------------------------------------

  const button = (spot, text) => {
    const node = element("button", "", text);
    node.dataset.spot = `${data.layers[spot.row]}/${spot.head}`;
    return node;
  };
  function tableOf(head, lines, texts) {
    const cell = (tag, content, column) => element(tag, `${texts.includes(column) ? "text" : ""} ${head[column] === "tags" ? "tags" : ""}`.trim(), content instanceof Node ? content : String(content));
    return element("table", "", element("thead", "", element("tr", "", ...head.map((content, column) => cell("th", content, column)))),
      element("tbody", "", ...lines.map(({ cells, spot }) => {
        const line = element("tr", "", ...cells.map((content, column) => cell("td", content, column)));
        if (spot) {
          line.setAttribute("aria-current", String(spot.row === selected()?.row && spot.head === selected()?.head));
          line.addEventListener("click", () => open(spot)); // its button's clicks and keys arrive here too
        }
        return line;
      })));
  }
  function showRanking() {
    const measure = current(), { pattern, queries, needed } = data.measures[measure];
    const key = ({ row, head }) => (Number.isFinite(shown(row, head)) ? shown(row, head) : -Infinity);
    const order = all().filter(({ row, head }) => !left_out(row, head)).sort((a, b) => key(b) - key(a));
    const lines = order.slice(0, RANKED).map((spot, rank) => ({
      spot,
      cells: [`${rank + 1}.`, button(spot, `${data.layers[spot.row]}.${spot.head}`), digits(measure, value(measure, spot.row, spot.head)), ...(pattern ? [digits(measure, chance(measure, spot.row, spot.head))] : []), ...(relative() ? [digits(measure, shown(spot.row, spot.head))] : []), tagsOf(spot.row, spot.head) || "–"],
    }));
    const count = all().filter(({ row, head }) => tagged(measure, row, head)).length;
    const head = ["", "layer.head", "score", ...(pattern ? ["chance"] : []), ...(relative() ? ["above chance"] : []), "tags"];
    const said = !pattern ? "" : queries < needed ? ` · too few query tokens to tag (${queries}; ${needed} are needed)` : ` · ${count} of ${all().length} tagged`;
    refill(ranking, canvas, element("h4", "", `Highest ${plain(data.measures[measure].name)}${said}`),
      lines.length ? element("div", "list", tableOf(head, lines, [head.length - 1])) : element("p", "soft", "No head is tagged."));
  }
  function showCard() {
    const spot = selected();
    if (!spot) return card.replaceChildren(element("p", "soft", `Layer ${model.get("layer")} was not recorded.`));
    const lines = data.measures.map((m, measure) => {
      const score = value(measure, spot.row, spot.head), level = chance(measure, spot.row, spot.head);
      if (!m.pattern) return { cells: [plain(m.name), digits(measure, score), "", ""] };
      const fill = element("i"), line = element("b");
      fill.style.width = `${100 * limit(score || 0, 0, 1)}%`;
      line.style.left = `${100 * limit(level || 0, 0, 1)}%`;
      const is = tagged(measure, spot.row, spot.head);
      return { cells: [element("span", is ? "yes" : "", `${plain(m.name)}${is ? " ●" : ""}`), digits(measure, score), element("span", "track", fill, ...(Number.isFinite(level) ? [line] : [])), digits(measure, level)] };
    });
    const group = data.heads / data.kv_heads, kv = Math.floor(spot.head / group);
    const shared = group > 1 ? `heads ${kv * group} to ${kv * group + group - 1} share key–value head ${kv}` : `key–value head ${kv}`;
    card.replaceChildren(element("h4", "", `Layer ${data.layers[spot.row]}, head ${spot.head}`, element("span", "soft", ` · ${shared}`)),
      element("div", "list", tableOf(["● tagged", "score", "line: chance", "chance"], lines, [0, 2])));
  }
  function showTable() {
    if (numbers.hidden) return;
    const names = ["layer", "head", "kv head", ...data.measures.map((m) => plain(m.name)), "tags"];
    const group = data.heads / data.kv_heads, column = names.indexOf(sorted.column);
    const lines = all().map((spot) => ({ spot, keys: [data.layers[spot.row], spot.head, Math.floor(spot.head / group), ...data.measures.map((_, n) => value(n, spot.row, spot.head)), tagsOf(spot.row, spot.head)] }));
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : (Number.isFinite(a) ? a : -Infinity) - (Number.isFinite(b) ? b : -Infinity));
    if (column >= 0) lines.sort((a, b) => (sorted.up ? 1 : -1) * compare(a.keys[column], b.keys[column]));
    const header = names.map((name) => {
      const node = element("button", "", name + (name === sorted.column ? (sorted.up ? " ▲" : " ▼") : ""));
      node.addEventListener("click", () => {
        sorted = { column: name, up: name === sorted.column ? !sorted.up : false };
        showTable();
      });
      return node;
    });
    refill(numbers, canvas, tableOf(header, lines.map(({ spot, keys }) => ({ spot, cells: keys.map((key, n) => (n === 0 ? button(spot, String(key)) : n > 2 && n < names.length - 1 ? digits(n - 3, key) : key || (n < 3 ? "0" : "–"))) })), [names.length - 1]));
  }
  function show() {
    if (!data) return;
    for (const [name, control] of Object.entries(controls)) control[control.type === "checkbox" ? "checked" : "value"] = model.get(name);
    const m = data.measures[current()];
    controls.relative.disabled = controls.tagged_only.disabled = !m.pattern;
    meaning.textContent = !m.pattern ? `${m.words}.` : `Share of attention on ${m.words}${m.name === "uniform" ? ": the overlap with even attention" : ""}${m.queries ? `, mean over ${counted(m.queries, "query token")}` : ""}. Chance: ${m.chance}.${m.threshold == null ? "" : ` A head is tagged if its score covers at least ${Math.round(100 * m.threshold)} % of the distance from chance to 1${m.shuffled ? " and lies above every shuffled text" : ""}, over at least ${counted(m.needed, "query token")}.`}`;
    draw();
    reading.textContent = read(hover || selected());
    showRanking();
    showCard();
    showTable();
    root.dataset.shown = `${model.get("layer")}/${model.get("head")}/${m.name}`;
  }

  // -- pointer and keys ---------------------------------------------------------------------------------

  function open({ row, head }) {
    page.set({ layer: data.layers[row], head });
    spoken.textContent = read({ row, head });
  }
  function under(event) {
    if (!grid) return null;
    const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    const line = Math.floor((py - TOP) / grid.height);
    if (line < 0 || line >= grid.order.length) return null;
    const column = grid.columns[line].findIndex((_, c) => px >= grid.x(c) && px < grid.x(c) + grid.cell);
    return column < 0 ? null : { row: grid.order[line], head: grid.columns[line][column] };
  }
  function point(spot) {
    if (spot?.row === hover?.row && spot?.head === hover?.head) return;
    hover = spot;
    draw();
    reading.textContent = read(hover || selected());
  }
  canvas.addEventListener("mousemove", (event) => point(under(event)));
  canvas.addEventListener("mouseleave", () => point(null));
  canvas.addEventListener("click", (event) => { const spot = under(event); if (spot) open(spot); });
  canvas.addEventListener("keydown", (event) => {
    const [down, along] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -Infinity], End: [0, Infinity] }[event.key] || [];
    if (down === undefined || !data || !selected()) return;
    event.preventDefault();
    event.stopPropagation();
    const { row, head } = selected(), line = grid.order.indexOf(row), column = grid.columns[line].indexOf(head);
    const next = limit(line + down, 0, grid.order.length - 1);
    open({ row: grid.order[next], head: grid.columns[next][limit(column + along, 0, data.heads - 1)] });
  });

  // -- the model ----------------------------------------------------------------------------------------

  const onMessage = (content, buffers) => {
    if (content.kind !== "heads" || data) return; // another display of this widget asked
    data = { ...content, values: asFloat32(buffers[0]), chances: asFloat32(buffers[1]), tags: copied(buffers[2], Uint8Array) };
    build();
    show();
    root.dataset.ready = "true";
  };
  page.on("msg:custom", onMessage);
  page.on(["change:layer", "change:head", "change:score", "change:relative", "change:layer_order", "change:head_order", "change:tagged_only"], show);
  const seen = new IntersectionObserver(draw), sized = new ResizeObserver(draw);
  seen.observe(canvas); // JupyterLab blanks a canvas that is scrolled away
  sized.observe(root);
  page.atEnd(() => { seen.disconnect(); sized.disconnect(); });
  page.onTheme(draw);
  return page.begin();
}

export default { render };
