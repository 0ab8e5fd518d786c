/** All heads, each as a small map: a row per layer. A click shows a head large. */
import { pen, spot } from "../shared/canvas.js";
import { element } from "../shared/dom.js";
import { limit } from "../shared/values.js";
import { colourStep } from "./colours.js";
import { FIRST_BOXES, headAt, headLeft, measuredGrid } from "./head_grid.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./small_map_store.js").SmallMap} SmallMap */

const THUMBNAIL = 48; // blocks along a side, at most

/**
 * A small map's colours, [side, side] as ImageData holds them; 0 above the diagonal.
 * @param {SmallMap} map
 * @param {Uint32Array} table  of 256 colours
 * @param {import("./colours.js").Scale} how
 */
export function smallMapColours({ values, side, difference }, table, how) {
  const words = new Uint32Array(side * side), full = difference ? 127 : 255, row = new Float32Array(side);
  let at = 0, top = 0;
  for (let r = 0; r < side; r++) for (let c = 0; c <= r; c++) {
    const size = Math.abs(values[at++]);
    row[r] = Math.max(row[r], size);
    top = Math.max(top, size);
  }
  at = 0;
  for (let r = 0; r < side; r++) for (let c = 0; c <= r; c++) {
    const root = values[at++] / full, most = (how === "row" ? row[r] : top) / full;
    words[r * side + c] = table[colourStep(root * Math.abs(root), most * most, difference, how)];
  }
  return words;
}

/**
 * @param {State} state
 * @param {import("./small_map_store.js").SmallMapStore} store
 */
export function smallMaps(state, store) {
  const { model } = state;
  let zoomed = 1, boxes = FIRST_BOXES;
  /** @type {OffscreenCanvas|null} All small maps, a pixel per block. */
  let atlas = null;
  /** @type {HTMLCanvasElement} */
  const grid = element("canvas", "heads"), note = element("div", "soft small");
  const smaller = element("button", "plain", "−"), larger = element("button", "plain", "+");
  smaller.setAttribute("aria-label", "smaller maps of all heads");
  larger.setAttribute("aria-label", "larger maps of all heads");
  grid.tabIndex = 0;
  grid.setAttribute("role", "img");
  grid.setAttribute("aria-label", "all heads, a row per layer; arrow keys choose a head");
  const panel = element("div", "left", element("div", "bar", element("h4", "", "All heads"), smaller, larger), element("div", "all", grid), note);

  for (const [button, factor] of [[smaller, 1 / 1.4], [larger, 1.4]]) {
    button.addEventListener("click", () => { zoomed = limit(zoomed * factor, 0.5, 4); state.schedule("all"); });
  }
  grid.addEventListener("pointermove", (event) => {
    if (!state.text?.count) return;
    const at = headAt(boxes, state.text, spot(grid, event));
    state.point(at && { grid: at });
  });
  grid.addEventListener("pointerleave", () => state.leave());
  grid.addEventListener("click", (event) => {
    const at = state.text?.count && headAt(boxes, state.text, spot(grid, event));
    if (at) state.page.set({ layer: at[0], head: at[1] });
  });

  /** Paint one map into the atlas, if there is one yet. */
  function paint(index) {
    if (!state.theme || !atlas) return;
    const { heads, layers } = state.text, map = store.maps.get(index), { side } = map;
    const table = (map.difference ? state.theme.difference : state.theme.row).words, image = new ImageData(side, side);
    new Uint32Array(image.data.buffer).set(smallMapColours(map, table, model.get("scale")));
    const x = (index % heads) * THUMBNAIL, y = layers.indexOf(Math.floor(index / heads)) * THUMBNAIL, context = atlas.getContext("2d");
    context.clearRect(x, y, THUMBNAIL, THUMBNAIL);
    context.putImageData(image, x, y);
  }
  function paintAll() {
    atlas = new OffscreenCanvas(state.text.heads * THUMBNAIL, state.text.layers.length * THUMBNAIL);
    for (const index of store.maps.keys()) paint(index);
  }

  /** Find out how large the maps are to be in a view of this width; returns the width of their column. */
  function measure(width) {
    const measured = measuredGrid(state.text, width, zoomed);
    boxes = measured.boxes;
    return measured.column;
  }

  function draw() {
    const { text, theme } = state, { cell, top } = boxes, left = (head) => headLeft(boxes, text, head);
    const width = left(text.heads - 1) + cell + 4, context = pen(grid, width, top + text.layers.length * cell + 4);
    drawNames(context, left);
    text.layers.forEach((layer, row) => { for (let head = 0; head < text.heads; head++) drawMap(context, layer, row, head, left(head)); });
    const frame = (layer, head, dash, colour) => {
      context.strokeStyle = colour;
      context.lineWidth = 2.5;
      context.setLineDash(dash);
      context.strokeRect(left(head) - 0.25, top + text.layers.indexOf(layer) * cell - 0.25, cell + 0.5, cell + 0.5);
    };
    if (model.get("compare") === "head") frame(model.get("other_layer"), model.get("other_head"), [4, 3], theme.ink);
    frame(model.get("layer"), model.get("head"), [], theme.mark);
    writeNote(width);
    grid.dataset.geometry = JSON.stringify({ ...boxes, group: text.heads / text.key_heads });
    state.root.dataset.thumbnails = String(store.maps.size);
  }

  /** @param {CanvasRenderingContext2D} context */
  function drawNames(context, left) {
    const { text, theme } = state, { cell, gap, top } = boxes, group = text.heads / text.key_heads;
    const every = Math.max(1, Math.ceil(15 / cell)), across = Math.max(1, Math.ceil(18 / cell)); // names that fit
    context.fillStyle = theme.soft;
    context.textAlign = "center";
    for (let head = 0; head < text.heads; head += across) context.fillText(String(head), left(head) + cell / 2, top - 8);
    if (gap)
      for (let shared = 0; shared < text.key_heads; shared++) {
        const from = left(shared * group), to = left(shared * group + group - 1) + cell;
        context.fillRect(from + 1, 15, to - from - 3, 1.5);
        context.fillText(to - from > 78 ? `key–value head ${shared}` : to - from > 34 ? `kv ${shared}` : String(shared), (from + to) / 2, 7);
      }
    context.textAlign = "left";
    text.layers.forEach((layer, row) => { if (row % every === 0) context.fillText(`layer ${layer}`, 0, top + (row + 0.5) * cell); });
  }

  /** @param {CanvasRenderingContext2D} context */
  function drawMap(context, layer, row, head, left) {
    const { theme } = state, { cell, top } = boxes, inset = cell > 20 ? 1.5 : 0.5;
    const side = store.maps.get(store.index(layer, head))?.side, x = left + inset, y = top + row * cell + inset, size = cell - 2 * inset;
    context.strokeStyle = theme.line;
    context.lineWidth = 1;
    if (cell > 20 || !side) context.strokeRect(x, y, size, size);
    if (!side) return;
    context.imageSmoothingEnabled = side > size;
    context.drawImage(atlas, head * THUMBNAIL, row * THUMBNAIL, side, side, x, y, size, size);
    if (state.canOpen(layer, head)) return;
    context.fillStyle = theme.paper;
    context.globalAlpha = 0.75;
    context.fillRect(x, y, size, size);
    context.globalAlpha = 1;
  }

  function writeNote(width) {
    const { text } = state, { told, round } = store, words = [];
    if (text.layers.some((layer) => state.headNumbers().some((head) => !state.canOpen(layer, head)))) words.push("faded heads cannot be enlarged on this page");
    if (round.absent) words.push(told ? "this saved page has no small maps for these settings; those shown are as they were saved" : "this saved page has no small maps");
    if (told) {
      if (told.size > 1) words.push(`a point is the ${told.blocks === "max" ? "strongest" : "mean"} weight of ${told.size} × ${told.size} tokens`);
      if (told.every > 1) words.push(`one query token in ${told.every} is shown`);
      if (told.sink) words.push(told.sink === 1 ? "without the first token" : `without the first ${told.sink} tokens`);
      words.push("each map has its own colour scale");
      if (told.difference) words.push(`minus the same head of ${text.other}`);
    }
    note.textContent = words.join("; ");
    note.classList.toggle("problem", round.absent);
    note.style.maxWidth = `${Math.max(220, Math.min(width, state.room.left || width))}px`;
  }

  return { element: panel, canvas: grid, measure, paint, paintAll, draw };
}
