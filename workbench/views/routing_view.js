/**
 * Expert routing: a strip of tokens over a map of layers, eight stripes (groups) to a cell.
 *
 * @typedef Model  traits, all numbers
 * @property {number} token   selected token, -1 for none
 * @property {number} layer   selected layer
 * @property {number} expert  selected expert, -1 for none
 *
 * Message to Python: {kind: "want"}.
 * Message from Python: {kind: "routing", shape: [layer, token, slot], experts, pieces, spans, model}
 * with three buffers, all [layer, token, slot]: experts (uint16), weights (float32) and
 * probabilities (float32).
 */

const CSS = `
.pw-routing { color: var(--jp-ui-font-color1, #1f1f1f); font: 13px/1.45 var(--jp-ui-font-family, system-ui, sans-serif); padding: 4px; }
.pw-routing .bar { display: flex; gap: 14px; align-items: baseline; flex-wrap: wrap; margin: 2px 0 6px; }
.pw-routing .bar b { font-size: 14px; }
.pw-routing .muted { color: var(--jp-ui-font-color2, #616161); }
.pw-routing .strip { max-height: 9.5em; overflow: auto; padding: 5px; border: 1px solid var(--jp-border-color2, #ccc); border-radius: 4px; line-height: 1.9; }
.pw-routing .token { white-space: pre-wrap; overflow-wrap: anywhere; font-family: var(--jp-code-font-family, monospace); padding: 1px 0; border-radius: 2px; border-bottom: 2px solid transparent; cursor: pointer; }
.pw-routing .token:hover { background: var(--jp-layout-color3, #ddd); }
.pw-routing .token.thinking { border-bottom: 2px dotted currentColor; }
.pw-routing .token.answer { border-bottom: 2px solid currentColor; }
.pw-routing .token.special { opacity: .65; font-size: 11px; }
.pw-routing .token[aria-selected=true] { background: var(--jp-brand-color1, #1976d2); color: #fff; }
.pw-routing .scroll { overflow-x: auto; margin: 8px 0; display: flex; }
.pw-routing .layers { font-size: 11px; text-align: right; padding-right: 6px; flex: none; position: sticky; left: 0; background: var(--jp-layout-color0, #fff); }
.pw-routing canvas:focus-visible, .pw-routing .strip:focus-visible { outline: 2px solid var(--jp-brand-color1, #1976d2); }
.pw-routing canvas { flex: none; cursor: crosshair; }
.pw-routing table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.pw-routing th, .pw-routing td { padding: 2px 10px; text-align: right; border-bottom: 1px solid var(--jp-border-color2, #ddd); }
.pw-routing tr.chosen { outline: 2px solid var(--jp-brand-color1, #1976d2); }
.pw-routing td button { all: unset; cursor: pointer; padding: 0 4px; }
.pw-routing td button:focus-visible { outline: 2px solid var(--jp-brand-color1, #1976d2); }
.pw-routing .swatch { display: inline-block; width: 12px; height: 12px; margin-right: 6px; vertical-align: -1px; border: 1px solid #8888; }
.pw-routing .meter { display: inline-block; height: 9px; background: var(--jp-brand-color1, #1976d2); vertical-align: 0; }
.pw-routing .note { max-width: 62em; margin-top: 6px; }
`;

const element = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

function render({ model, el }) {
  const root = element("div", "pw-routing");
  root.append(element("style", "", CSS));
  el.append(root);
  let data = null;

  const colour = (expert) => {
    const size = data.experts / data.slots;
    const lightness = 30 + (50 * (expert % size)) / Math.max(1, size - 1);
    return `hsl(${(Math.floor(expert / size) * 360) / data.slots} 65% ${lightness}%)`;
  };
  const at = (array, layer, token, slot) => array[(layer * data.tokens + token) * data.slots + slot];

  const bar = element("div", "bar");
  const strip = element("div", "strip");
  strip.tabIndex = 0;
  strip.setAttribute("role", "listbox");
  strip.setAttribute("aria-label", "tokens; arrow keys move the selection");
  const scroll = element("div", "scroll");
  const labels = element("div", "layers");
  const canvas = document.createElement("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  scroll.append(labels, canvas);
  const detail = element("div", "detail");
  const note = element("p", "note muted");
  root.append(bar, strip, scroll, detail, note);
  let cellWidth = 40, cellHeight = 22;

  function build() {
    const title = element("b", "", `Expert routing of ${data.model}`);
    const choose = element("label", "", "layer ");
    const select = document.createElement("select");
    for (let layer = 0; layer < data.layers; layer++) select.append(new Option(layer, layer));
    select.addEventListener("change", () => change({ layer: Number(select.value) }));
    choose.append(select);
    data.select = select;
    const legend = element("span", "muted", `${data.tokens} tokens · ${data.layers} layers · ${data.experts} experts in ${data.slots} groups. Hue: group. Lightness: expert in its group. Dotted line: thinking. Solid line: answer.`);
    bar.replaceChildren(title, choose, legend);

    const kinds = new Array(data.tokens).fill("prompt");
    for (const span of data.spans) kinds.fill(span.kind, span.start, span.end);
    strip.replaceChildren(...data.pieces.map((piece, token) => {
      const node = element("span", `token ${kinds[token]}`, piece);
      if (/^(<.+>|\[unused\d+\])$/.test(piece)) node.classList.add("special");
      node.setAttribute("role", "option");
      node.title = `token ${token}: ${JSON.stringify(piece)} (${kinds[token]})`;
      node.addEventListener("click", () => change({ token, expert: -1 }));
      return node;
    }));
    cellWidth = Math.max(8, Math.min(48, Math.floor(900 / data.tokens)));
    cellHeight = Math.max(10, Math.min(24, Math.floor(420 / data.layers)));
    labels.replaceChildren(...Array.from({ length: data.layers }, (_, layer) => {
      const label = element("div", "", layer % Math.ceil(12 / cellHeight) ? "" : `layer ${layer}`);
      label.style.cssText = `height:${cellHeight}px;line-height:${cellHeight}px`;
      return label;
    }));
    canvas.width = data.tokens * cellWidth;
    canvas.height = data.layers * cellHeight;
    canvas.setAttribute("aria-label", "experts by layer and token; arrow keys move, the table below says the same");
    note.textContent = `A uniform router would give every expert a probability of ${(100 / data.experts).toFixed(2)} %. Each token uses one expert of each group, so the groups' loads are equal by construction: no finding. Weight = probability × router_scale; the weights are not renormalised.`;
  }

  function draw() {
    if (!data) return;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, canvas.width, canvas.height);
    const gap = cellWidth > 12 ? 2 : cellWidth > 8 ? 1 : 0;
    const stripe = (cellWidth - gap) / data.slots;
    for (let layer = 0; layer < data.layers; layer++)
      for (let token = 0; token < data.tokens; token++)
        for (let slot = 0; slot < data.slots; slot++) {
          pen.fillStyle = colour(at(data.chosen, layer, token, slot));
          pen.fillRect(token * cellWidth + slot * stripe, layer * cellHeight, Math.max(stripe, 1), cellHeight - 2);
        }
    const token = model.get("token"), layer = model.get("layer");
    if (token >= 0) {
      pen.lineWidth = 2;
      pen.strokeStyle = getComputedStyle(root).color;
      pen.strokeRect(token * cellWidth, layer * cellHeight, cellWidth - 1, cellHeight - 1);
    }
  }

  function show() {
    if (!data) return;
    const token = model.get("token"), layer = model.get("layer"), expert = model.get("expert");
    data.select.value = String(layer);
    [...strip.children].forEach((node, index) => node.setAttribute("aria-selected", String(index === token)));
    draw();
    if (token < 0) {
      detail.replaceChildren(element("p", "hint", "Click a token or a cell, or move with the arrow keys, to see its winners."));
      return;
    }
    const table = element("table");
    const head = element("tr");
    for (const text of ["group", "expert", "probability", "weight", ""]) head.append(element("th", "", text));
    const top = Math.max(...Array.from({ length: data.slots }, (_, slot) => at(data.weights, layer, token, slot)));
    const rows = Array.from({ length: data.slots }, (_, slot) => {
      const winner = at(data.chosen, layer, token, slot), weight = at(data.weights, layer, token, slot);
      const row = element("tr", winner === expert ? "chosen" : "");
      const name = element("td");
      const button = element("button", "", String(winner));
      const swatch = element("span", "swatch");
      swatch.style.background = colour(winner);
      button.prepend(swatch);
      button.addEventListener("click", () => change({ expert: winner }));
      name.append(button);
      const meter = element("span", "meter");
      meter.style.width = `${Math.max(1, (120 * weight) / top)}px`;
      const bar = element("td");
      bar.style.textAlign = "left";
      bar.append(meter);
      row.append(element("td", "", String(slot)), name,
        element("td", "", `${(100 * at(data.probability, layer, token, slot)).toFixed(2)} %`),
        element("td", "", weight.toFixed(4)), bar);
      return row;
    });
    table.append(head, ...rows);
    const caption = element("p", "caption");
    caption.append("Token ", element("b", "", String(token)), " ", element("code", "", JSON.stringify(data.pieces[token])), `, layer ${layer}: one winner of each group`);
    detail.replaceChildren(caption, table);
  }

  function change(values) {
    for (const [name, value] of Object.entries(values)) {
      if (name === "token") model.set("token", value);
      if (name === "layer") model.set("layer", value);
      if (name === "expert") model.set("expert", value);
    }
    model.save_changes();
  }

  const onCanvas = (event) => {
    const box = canvas.getBoundingClientRect();
    change({
      token: Math.max(0, Math.min(data.tokens - 1, Math.floor(((event.clientX - box.left) * canvas.width) / box.width / cellWidth))),
      layer: Math.max(0, Math.min(data.layers - 1, Math.floor(((event.clientY - box.top) * canvas.height) / box.height / cellHeight))),
      expert: -1,
    });
  };
  const onKey = (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || !data) return;
    event.preventDefault();
    event.stopPropagation();
    change({
      token: Math.max(0, Math.min(data.tokens - 1, model.get("token") + step[0])),
      layer: Math.max(0, Math.min(data.layers - 1, model.get("layer") + step[1])),
      expert: -1,
    });
  };
  canvas.addEventListener("click", onCanvas);
  canvas.addEventListener("keydown", onKey);
  strip.addEventListener("keydown", onKey);

  const onMessage = (content, buffers) => {
    if (content.kind !== "routing") return;
    const [layers, tokens, slots] = content.shape;
    const bytes = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
    data = { ...content, layers, tokens, slots, chosen: new Uint16Array(bytes(buffers[0])),
      weights: new Float32Array(bytes(buffers[1])), probability: new Float32Array(bytes(buffers[2])) };
    build();
    show();
    root.dataset.ready = "true";
  };
  model.on("msg:custom", onMessage);
  model.on("change:token", show);
  model.on("change:layer", show);
  model.on("change:expert", show);
  // A notebook that draws only what is on screen blanks canvases that scroll away.
  const watcher = new IntersectionObserver(draw);
  watcher.observe(canvas);
  model.send({ kind: "want" });
  return () => {
    watcher.disconnect();
    model.off("msg:custom", onMessage);
    model.off("change:token", show);
    model.off("change:layer", show);
    model.off("change:expert", show);
  };
}

export default { render };
