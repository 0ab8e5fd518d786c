/** One head as a large map: rows attend to columns. Bars of one token stand beside it, pins and colours below. */
import { pen } from "../shared/canvas.js";
import { element } from "../shared/dom.js";
import { limit } from "../shared/values.js";
import { CODE_FONT } from "./canvas_text.js";
import { colourStep } from "./colours.js";
import { headOfName } from "./head_store.js";
import { drawMapFrame } from "./map_frame.js";
import { mapLegend } from "./map_legend.js";
import { mapOverlay } from "./map_overlay.js";
import { columnLeft, placed, rowTop } from "./map_place.js";
import { pinnedRows } from "./pins.js";
import { Tile } from "./tile.js";
import { shownPiece } from "./writing.js";

/** @typedef {import("./state.js").State} State */

const FIRST_SLICE = 45; // milliseconds of work before a map is drawn for which nothing stands in
const SLICE = 8; // milliseconds of work between frames
const REDRAWN = 120; // milliseconds after which an unfinished map is drawn again

/** @param {State} state */
export function largeMap(state) {
  const { model, root } = state;
  /** @type {Tile|null} What is drawn. */
  let tile = null;
  /** @type {import("./map_place.js").Place|null} */
  let place = null;
  let drawn = 0; // when

  /** @type {HTMLCanvasElement} */
  const map = element("canvas", "map"), missing = element("div", "absent problem");
  const overlay = mapOverlay(state), pins = pinnedRows(state, map), legend = mapLegend(state);
  const title = element("h4"), note = element("span", "soft small"), whole = element("button", "plain", "whole map"), pinButton = element("button", "plain", "pin");
  whole.addEventListener("click", () => state.page.set({ zoom: [] }));
  pinButton.addEventListener("click", () => state.pin(state.selected()));
  map.tabIndex = 0;
  map.setAttribute("role", "img");
  map.setAttribute("aria-label", "attention of one head, rows attend to columns; arrow keys move the selected token, P pins it, plus and minus zoom, Escape shows the whole map; the lists below have the same numbers");
  const stage = element("div", "stage", map, overlay.element, missing);
  const panel = element("div", "right", element("div", "bar", title, whole, pinButton), element("div", "bar", note), stage, pins.element, legend.element);

  /** Title and buttons follow what is selected. */
  function follow() {
    const compare = model.get("compare"), token = state.selected();
    const minus = { none: "", head: ` − layer ${model.get("other_layer")}, head ${model.get("other_head")}`, trace: ` − the same head of ${state.text.other}` }[compare];
    title.textContent = `Layer ${model.get("layer")}, head ${model.get("head")}${minus}`;
    pinButton.disabled = token < 0;
    pinButton.textContent = token < 0 ? "pin" : `${model.get("pins").includes(token) ? "unpin" : "pin"} token ${token}`;
  }

  function makeTile() {
    const pair = state.pair();
    if (!pair) { tile = null; return; }
    const part = state.part(), first = state.sink(), { count } = state.text;
    const what = [state.mine(), state.comparing() ? state.theirs() : "", first].join(" ");
    if (tile?.name === Tile.nameOf(what, part, count)) return;
    tile = new Tile({ pair, what, part, first, count }, tile);
    work(tile, tile.under ? SLICE : FIRST_SLICE);
  }
  function work(current, budget) {
    if (tile !== current) return;
    current.work(budget);
    if (!current.complete) setTimeout(() => {
      work(current, SLICE);
      if (tile === current && (current.complete || performance.now() - drawn > REDRAWN)) draw();
    });
    root.dataset.tile = current.complete ? "done" : "working";
  }

  function measure() {
    const context = map.getContext("2d");
    context.font = CODE_FONT;
    const widest = (from, to) => {
      let most = 0;
      for (let token = from; token < to; token++) most = Math.max(most, context.measureText(shownPiece(state.text.pieces[token])).width);
      return Math.ceil(Math.min(110, most));
    };
    place = placed({ part: state.part(), count: state.text.count, apart: state.sink() > 0, width: state.room.right || 520, widest });
  }

  /** Draw all that the settings change: work out the map first. */
  function update() {
    makeTile();
    measure();
    draw();
  }
  function draw() {
    const context = pen(map, place.width, place.height);
    overlay.resize(place);
    drawn = performance.now();
    tellMissing();
    const { top } = tile?.top(model.get("blocks")) ?? { top: 0 };
    if (tile) {
      drawPicture(context);
      if (place.strip) drawApart(context);
    }
    drawMapFrame(context, state, place);
    legend.draw(top);
    tellPart();
    map.dataset.geometry = JSON.stringify({ ...place, top, size: tile?.size ?? 1 });
    root.dataset.shown = tile ? `${model.get("layer")}/${model.get("head")}` : "";
    overlay.draw(place);
    pins.draw(place);
  }

  /** Say of a saved page that it does not hold what is to be shown. */
  function tellMissing() {
    const name = state.wanted().find((wanted) => state.store.absent.has(wanted)), { x, y, side } = place;
    missing.hidden = tile !== null || !name;
    Object.assign(missing.style, { left: `${x + 12}px`, top: `${y + 12}px`, maxWidth: `${side - 50}px` });
    if (missing.hidden) { missing.textContent = ""; return; }
    const [trace, layer, head] = headOfName(name);
    missing.textContent = `This saved page does not contain layer ${layer}, head ${head}${trace === 1 ? ` of ${state.text.other}` : ""}. Save it with to_html(layers=…, heads=…) to include it.`;
  }

  /** @param {CanvasRenderingContext2D} context */
  function drawPicture(context) {
    const { x, y, side } = place, across = (token) => columnLeft(place, token), down = (token) => rowTop(place, token);
    tile.picture = pictureOf(tile);
    context.imageSmoothingEnabled = Math.max(tile.nr, tile.nc) > side * (window.devicePixelRatio || 1);
    context.save();
    context.beginPath();
    context.rect(x, y, side, side);
    context.clip();
    for (const part of [tile.under, tile]) { // what was shown before stands in for rows that are still to come
      if (part) context.drawImage(part.picture, across(part.c0), down(part.r0), across(part.c0 + part.nc * part.size) - across(part.c0), down(part.r0 + part.nr * part.size) - down(part.r0));
    }
    context.restore();
  }

  /** A tile as a picture, a pixel per block. @param {Tile} part */
  function pictureOf(part) {
    const { nr, nc, size, r0, r1, c0, first } = part, kind = model.get("blocks"), how = model.get("scale"), difference = state.comparing();
    const values = part.values[kind], { top, rows } = part.top(kind);
    const image = new ImageData(nc, nr), words = new Uint32Array(image.data.buffer), table = (difference ? state.theme.difference : state.theme.row).words;
    for (let row = 0; row < part.done; row++) {
      const last = Math.min(r1, r0 + (row + 1) * size) - 1, most = how === "row" ? rows[row] : top;
      const plain = most > 0 && !difference && how !== "log" ? 255 / most : 0; // as `colourStep`, without its questions for every point
      for (let column = Math.max(0, Math.floor((first - c0) / size)), end = Math.min(nc, Math.floor((last - c0) / size) + 1); column < end; column++) {
        const value = values[row * nc + column];
        if (!Number.isNaN(value)) words[row * nc + column] = table[plain ? (value * plain + 0.5) | 0 : colourStep(value, most, difference, how)];
      }
    }
    const picture = new OffscreenCanvas(nc, nr);
    picture.getContext("2d").putImageData(image, 0, 0);
    return picture;
  }

  /** The column of what the first tokens get. @param {CanvasRenderingContext2D} context */
  function drawApart(context) {
    const { y, side, label, strip } = place, { r0, size } = tile, difference = state.comparing(), shades = difference ? state.theme.difference : state.theme.column;
    for (let row = 0; row < tile.done; row++) {
      const value = tile.apart[row];
      if (Number.isNaN(value)) continue;
      context.fillStyle = shades.css[difference ? colourStep(value, 1, true, "linear") : Math.round(255 * limit(value, 0, 1))];
      const from = rowTop(place, r0 + row * size), to = Math.min(y + side, rowTop(place, r0 + (row + 1) * size));
      context.fillRect(label, from, strip, Math.max(to - from, 0.6));
    }
  }

  /** Say above the map which part it is, and what a point is. */
  function tellPart() {
    const { count } = state.text, words = ["each row shows what its token attends to"];
    const part = tile !== null && (tile.r1 - tile.r0 < count || tile.c1 - tile.c0 < count);
    if (part) words[0] = `rows ${tile.r0} to ${tile.r1 - 1} attend to columns ${tile.c0} to ${tile.c1 - 1}`;
    if (tile?.size > 1) words.push(`a point is the ${model.get("blocks") === "max" ? (state.comparing() ? "largest difference" : "strongest weight") : "mean"} of ${tile.size} × ${tile.size} tokens`);
    if (tile && !tile.complete) words.push("working …");
    words.push("drag to zoom, click to select, Shift and click to pin");
    note.textContent = words.join("; ");
    whole.hidden = !part;
  }

  return {
    element: panel,
    canvas: map,
    follow,
    update,
    /** Draw what follows the pointer. */
    drawOverlay: () => overlay.draw(place),
    drawPins: () => pins.draw(place),
    /** Let go what is drawn: another head is to come. */
    forget: () => { tile = null; },
    /** Where the map is; null before it was drawn. */
    place: () => place,
    /** Whether a saved page says that it does not hold the head. */
    saysMissing: () => !missing.hidden,
  };
}
