/** The map of choices: layers × tokens × groups, a cell the expert that a token uses. */
import { outline, pen, spot, stage, wipe } from "../shared/canvas.js";
import { pixel } from "../shared/colours.js";
import { element } from "../shared/dom.js";
import { counted, limit } from "../shared/values.js";
import { choiceAt, layerTop } from "./choice_grid.js";
import { panel } from "./panel.js";
import { WIDEST } from "./state.js";

/**
 * @param {import("./state.js").State} state
 * @param {(token: number) => void} scrollTo
 */
export function choiceMap(state, scrollTo) {
  const maps = panel("map", "Layers × tokens × groups"), range = element("span", "soft small");
  const map = stage(maps.body, "map", "experts by layer, token and group; left and right move the token, up and down the layer");
  const zoom = (text, label, next) => {
    const button = element("button", "plain small", text);
    button.setAttribute("aria-label", label);
    button.addEventListener("click", () => {
      const middle = state.from + state.shown() / 2;
      state.cell = limit(next(state.cell), 1, WIDEST);
      scrollTo(Math.round(middle - state.shown() / 2));
    });
    return button;
  };
  maps.bar.append(zoom("−", "zoom out", (cell) => Math.floor(cell / 1.5)), zoom("+", "zoom in", (cell) => Math.ceil(cell * 1.5)), range);

  const topOf = (layer) => layerTop(state.place, state.data.slots, layer);

  function draw() {
    const { data, place, cell, from, theme, counts } = state;
    const count = state.shown(), rows = data.layers * data.slots, height = topOf(data.layers);
    const context = pen(map.canvas, place.width, height);
    pen(map.over, place.width, height);
    range.textContent = count < data.count ? `tokens ${from} to ${from + count - 1} of ${data.count}; drag in the overview of the tokens, or scroll with Shift` : `${counted(data.count)}; one row per group; hue shows the group, lightness and number the expert in it`;
    map.canvas.dataset.geometry = JSON.stringify({ ...place, cell, from, count });
    if (!count) return;
    const solid = new Uint32Array(data.experts), pale = new Uint32Array(data.experts);
    for (let expert = 0; expert < data.experts; expert++) {
      solid[expert] = pixel(data.palette[expert]);
      pale[expert] = pixel(data.palette[expert].map((value, c) => Math.round(0.15 * value + 0.85 * theme.rgb[c])));
    }
    const image = new ImageData(count, rows), pixels = new Uint32Array(image.data.buffer);
    for (let column = 0; column < count; column++) {
      const token = from + column, colours = counts.keep[token] ? solid : pale;
      let source = token * rows;
      for (let row = 0; row < rows; row++) pixels[row * count + column] = colours[data.chosen[source++]];
    }
    const buffer = new OffscreenCanvas(count, rows);
    buffer.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    const every = Math.ceil(13 / (data.slots * place.row + place.gap));
    for (let layer = 0; layer < data.layers; layer++) {
      const top = topOf(layer);
      context.drawImage(buffer, 0, layer * data.slots, count, data.slots, place.left, top, count * cell, data.slots * place.row);
      context.fillStyle = theme.ink;
      if (layer % every === 0) {
        context.textAlign = "left";
        context.fillText(`layer ${layer}`, 2, top + Math.max(6, (data.slots * place.row) / 2));
      }
      if (place.row >= 8) {
        context.textAlign = "right";
        context.font = "8px system-ui, sans-serif";
        for (let slot = 0; slot < data.slots; slot++) context.fillText(String(slot), place.left - 4, top + (slot + 0.5) * place.row + 0.5);
        context.font = "11px system-ui, sans-serif";
      }
    }
    if (cell >= 14 && place.row >= 8) {
      context.textAlign = "center";
      context.font = "8px system-ui, sans-serif";
      for (let column = 0; column < count; column++) {
        if (!counts.keep[from + column]) continue;
        for (let layer = 0; layer < data.layers; layer++)
          for (let slot = 0; slot < data.slots; slot++) {
            const expert = data.at(from + column, layer, slot);
            context.fillStyle = data.inks[expert];
            context.fillText(String(expert), place.left + (column + 0.5) * cell, topOf(layer) + (slot + 0.5) * place.row + 0.5);
          }
      }
    }
    context.fillStyle = theme.paper;
    if (cell >= 6) for (let column = 1; column < count; column++) context.fillRect(place.left + column * cell - 0.5, 0, 1, height);
    context.fillStyle = theme.ink;
    for (const start of data.starts) if (start > from && start < from + count) context.fillRect(place.left + (start - from) * cell - 1, 0, 2, height);
  }

  /** Frame the layer, the tokens pointed at and selected, and all cells of an expert. */
  function mark({ token, layer, expert }, selected) {
    const { data, place, cell, from, theme } = state, over = wipe(map.over), count = state.shown();
    if (expert >= 0) {
      over.fillStyle = theme.ink;
      for (let column = 0; column < count; column++) {
        const slot = data.slot(from + column, layer, expert);
        if (slot < 0) continue;
        const x = place.left + column * cell, y = topOf(layer) + slot * place.row;
        if (place.row >= 4 && cell >= 4) { outline(over, theme.paper, 3, x, y, cell, place.row); outline(over, theme.ink, 1.5, x, y, cell, place.row); }
        else if (place.row >= 4) over.fillRect(x, y, Math.max(2, cell), place.row);
        else over.fillRect(x, topOf(layer), Math.max(1, cell - 1), data.slots * place.row);
      }
    }
    over.fillStyle = theme.mark;
    over.fillRect(place.left - 2, topOf(layer), 2, data.slots * place.row);
    for (const [which, colour] of [[selected, theme.mark], [token, theme.ink]])
      if (which >= from && which < from + count) outline(over, colour, 2, place.left + (which - from) * cell, 1, Math.max(2, cell), topOf(data.layers) - 2);
  }

  /** The token, layer and expert under the pointer. */
  function find(event) {
    const { data, place, cell, from } = state, found = choiceAt(place, data, cell, state.shown(), spot(map.canvas, event));
    return found && { token: from + found.column, layer: found.layer, expert: data.at(from + found.column, found.layer, found.slot) };
  }
  map.canvas.addEventListener("wheel", (event) => {
    const turn = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (!turn || state.shown() >= state.data.count) return;
    event.preventDefault();
    scrollTo(state.from + Math.round(turn / state.cell / 2) + Math.sign(turn));
  }, { passive: false });

  return { ...maps, canvas: map.canvas, draw, mark, find };
}
