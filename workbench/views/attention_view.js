/**
 * Attention of one head: a map of all tokens, and the text shaded for the selected one.
 *
 * @typedef Model
 * @property {number} layer        selected layer
 * @property {number} head         selected head
 * @property {number} token        selected query token
 * @property {boolean} hide_first  leave the first token out of the colours
 *
 * Message to Python: {kind: "want", layer, head}.
 * Message from Python: {kind: "attention", layer, head, pieces, spans, layers, heads, model} with
 * one buffer, [query token, key token] as uint16; 65535 is 1.
 */

const CSS = `
.pw-attention { color: var(--jp-ui-font-color1, #1f1f1f); font: 13px/1.45 var(--jp-ui-font-family, system-ui, sans-serif); padding: 4px; }
.pw-attention .bar { display: flex; gap: 14px; align-items: baseline; flex-wrap: wrap; margin: 2px 0 8px; }
.pw-attention .bar b { font-size: 14px; }
.pw-attention .muted { color: var(--jp-ui-font-color2, #616161); }
.pw-attention .panes { display: flex; gap: 18px; flex-wrap: wrap; align-items: flex-start; }
.pw-attention .map { position: relative; border: 1px solid var(--jp-border-color2, #ccc); }
.pw-attention canvas { display: block; cursor: crosshair; image-rendering: pixelated; }
.pw-attention canvas:focus-visible, .pw-attention .strip:focus-visible { outline: 2px solid var(--jp-brand-color1, #1976d2); }
.pw-attention .marker { position: absolute; left: 0; right: 0; pointer-events: none; border: solid var(--jp-brand-color1, #e65100); border-width: 1px 0; }
.pw-attention .side { flex: 1 1 300px; min-width: 260px; }
.pw-attention .strip { max-height: 11em; overflow: auto; padding: 5px; border: 1px solid var(--jp-border-color2, #ccc); border-radius: 4px; line-height: 1.9; }
.pw-attention .token { white-space: pre-wrap; overflow-wrap: anywhere; font-family: var(--jp-code-font-family, monospace); padding: 1px 0; cursor: pointer; border-bottom: 2px solid transparent; }
.pw-attention .token[aria-selected=true] { border-bottom-color: var(--jp-brand-color1, #e65100); font-weight: bold; }
.pw-attention table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-top: 8px; }
.pw-attention th, .pw-attention td { padding: 1px 10px; text-align: right; border-bottom: 1px solid var(--jp-border-color2, #ddd); }
.pw-attention th:nth-child(2), .pw-attention td.piece { text-align: left; white-space: pre; font-family: var(--jp-code-font-family, monospace); }
.pw-attention .reading { min-height: 1.5em; margin: 4px 0; }
`;

const element = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

function render({ model, el }) {
  const root = element("div", "pw-attention");
  root.append(element("style", "", CSS));
  el.append(root);
  const bar = element("div", "bar");
  const panes = element("div", "panes");
  const map = element("div", "map");
  const canvas = document.createElement("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "attention, rows attend to columns; arrow keys move the row, the table says the same");
  const marker = element("div", "marker");
  map.append(canvas, marker);
  const side = element("div", "side");
  const reading = element("div", "reading muted");
  const strip = element("div", "strip");
  strip.tabIndex = 0;
  strip.setAttribute("role", "listbox");
  strip.setAttribute("aria-label", "tokens; arrow keys move the selection");
  const table = element("table");
  side.append(strip, table);
  const left = element("div");
  left.append(map, reading);
  panes.append(left, side);
  root.append(bar, panes);
  let data = null;
  let controls = null;
  let side_px = 400;

  const weight = (row, column) => data.weights[row * data.tokens + column] / 65535;
  const first = () => (model.get("hide_first") && data.tokens > 1 ? 1 : 0);

  function build() {
    const pick = (label, name, options) => {
      const holder = element("label", "", `${label} `);
      const select = document.createElement("select");
      for (const option of options) select.append(new Option(option, option));
      select.value = String(name === "layer" ? model.get("layer") : model.get("head"));
      select.addEventListener("change", () => {
        if (name === "layer") model.set("layer", Number(select.value));
        else model.set("head", Number(select.value));
        model.save_changes();
      });
      holder.append(select);
      return { holder, select };
    };
    const layer = pick("layer", "layer", data.layers);
    const head = pick("head", "head", Array.from({ length: data.heads }, (_, h) => h));
    const holder = element("label");
    const check = document.createElement("input");
    check.type = "checkbox";
    check.addEventListener("change", () => {
      model.set("hide_first", check.checked);
      model.save_changes();
    });
    holder.append(check, " colours without the first token");
    controls = { layer: layer.select, head: head.select, check, scale: element("span", "scale muted") };
    bar.replaceChildren(element("b", "", `Attention of ${data.model}`), layer.holder, head.holder, holder, controls.scale);
    strip.replaceChildren(...data.pieces.map((piece, token) => {
      const node = element("span", "token", piece);
      node.setAttribute("role", "option");
      node.addEventListener("click", () => choose(token));
      node.addEventListener("mouseenter", () => shade(token));
      return node;
    }));
    strip.addEventListener("mouseleave", () => shade(model.get("token")));
    canvas.width = canvas.height = data.tokens;
    side_px = Math.max(280, Math.min(560, data.tokens * 16));
    canvas.style.width = canvas.style.height = `${side_px}px`;
  }

  function draw() {
    if (!data) return;
    let top = 0;
    for (let row = 0; row < data.tokens; row++)
      for (let column = first(); column <= row; column++) top = Math.max(top, weight(row, column));
    data.top = top || 1;
    const pen = canvas.getContext("2d");
    const image = pen.createImageData(data.tokens, data.tokens);
    const ink = getComputedStyle(root).color.match(/[\d.]+/g).map(Number);
    const light = ink[0] + ink[1] + ink[2] < 384;
    for (let row = 0; row < data.tokens; row++)
      for (let column = 0; column < data.tokens; column++) {
        const place = 4 * (row * data.tokens + column);
        const share = column < first() ? 0 : Math.min(1, weight(row, column) / data.top);
        const alpha = column > row ? 0 : Math.round(255 * (0.06 + 0.94 * Math.sqrt(share)));
        image.data.set(light ? [8, 69, 148, alpha] : [120, 190, 255, alpha], place);
      }
    pen.putImageData(image, 0, 0);
    controls.scale.textContent = `strongest colour = ${(100 * data.top).toFixed(1)} %, colour ∝ √weight; rows attend to columns`;
  }

  function shade(token) {
    if (!data) return;
    const top = Math.max(...Array.from({ length: token + 1 }, (_, column) => (column < first() ? 0 : weight(token, column)))) || 1;
    [...strip.children].forEach((node, column) => {
      const share = column > token || column < first() ? 0 : weight(token, column) / top;
      node.style.background = share ? `rgb(30 120 220 / ${0.75 * share})` : "";
      node.title = column > token ? `token ${column}: after the selected one` : `token ${column}: ${(100 * weight(token, column)).toFixed(2)} %`;
    });
  }

  function show() {
    if (!data) return;
    const token = model.get("token");
    controls.layer.value = String(model.get("layer"));
    controls.head.value = String(model.get("head"));
    controls.check.checked = model.get("hide_first");
    draw();
    shade(token);
    [...strip.children].forEach((node, index) => node.setAttribute("aria-selected", String(index === token)));
    const height = side_px / data.tokens;
    marker.style.top = `${token * height}px`;
    marker.style.height = `${Math.max(1, height - 2)}px`;
    const order = Array.from({ length: token + 1 }, (_, column) => column).sort((a, b) => weight(token, b) - weight(token, a)).slice(0, 8);
    const head = element("tr");
    for (const text of ["token", "piece", "attention"]) head.append(element("th", "", text));
    table.replaceChildren(head, ...order.map((column) => {
      const row = element("tr");
      row.append(element("td", "", String(column)), element("td", "piece", data.pieces[column]), element("td", "", `${(100 * weight(token, column)).toFixed(2)} %`));
      return row;
    }));
    reading.textContent = `Token ${token} ${JSON.stringify(data.pieces[token])}; uniform attention would be ${(100 / (token + 1)).toFixed(2)} %`;
  }

  function choose(token) {
    model.set("token", Math.max(0, Math.min(data.tokens - 1, token)));
    model.save_changes();
  }
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const limit = (value) => Math.max(0, Math.min(data.tokens - 1, Math.floor(value)));
    return [limit(((event.clientY - box.top) / box.height) * data.tokens), limit(((event.clientX - box.left) / box.width) * data.tokens)];
  };
  canvas.addEventListener("click", (event) => choose(place(event)[0]));
  canvas.addEventListener("mousemove", (event) => {
    const [row, column] = place(event);
    reading.textContent = column > row ? "" : `${row} ${JSON.stringify(data.pieces[row])} → ${column} ${JSON.stringify(data.pieces[column])}: ${(100 * weight(row, column)).toFixed(2)} %`;
  });
  canvas.addEventListener("mouseleave", show);
  const onKey = (event) => {
    const step = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1 }[event.key];
    if (!step || !data) return;
    event.preventDefault();
    event.stopPropagation();
    choose(model.get("token") + step);
  };
  canvas.addEventListener("keydown", onKey);
  strip.addEventListener("keydown", onKey);

  const ask = () => {
    root.dataset.ready = "false";
    model.send({ kind: "want", layer: model.get("layer"), head: model.get("head") });
  };
  const onMessage = (content, buffers) => {
    if (content.kind !== "attention" || content.layer !== model.get("layer") || content.head !== model.get("head")) return;
    const bytes = buffers[0].buffer.slice(buffers[0].byteOffset, buffers[0].byteOffset + buffers[0].byteLength);
    data = { ...content, tokens: content.pieces.length, weights: new Uint16Array(bytes) };
    if (!controls) build();
    show();
    root.dataset.ready = "true";
    root.dataset.shown = `${content.layer}/${content.head}`;
  };
  model.on("msg:custom", onMessage);
  model.on("change:layer", ask);
  model.on("change:head", ask);
  model.on("change:token", show);
  model.on("change:hide_first", show);
  const watcher = new IntersectionObserver(draw);
  watcher.observe(canvas);
  ask();
  return () => {
    watcher.disconnect();
    model.off("msg:custom", onMessage);
    model.off("change:layer", ask);
    model.off("change:head", ask);
    model.off("change:token", show);
    model.off("change:hide_first", show);
  };
}

export default { render };
