/** Keys: on the small maps arrows choose a head; on the large map and the text they move the selected token. */
import { limit } from "../shared/values.js";
import { movedToRow, zoomedAround } from "./map_part.js";

/** @typedef {import("./state.js").State} State */

const HEAD_MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }; // layers, heads
const OTHER_KEYS = ["p", "P", "+", "-", "Escape"];

/** Whether a key is the view's; then nobody else is to hear of it, and the pointer's token steps back. */
function takes(state, event, known) {
  if (!known || !state.text?.count || event.ctrlKey || event.metaKey || event.altKey) return false;
  event.preventDefault();
  event.stopPropagation();
  state.hover = null;
  return true;
}

/**
 * @param {State} state
 * @param {HTMLElement} grid  of the small maps
 */
export function hearHeadKeys(state, grid) {
  grid.addEventListener("keydown", (event) => {
    const move = HEAD_MOVES[event.key];
    if (!takes(state, event, move)) return;
    const { model, text } = state, row = limit(text.layers.indexOf(model.get("layer")) + move[0], 0, text.layers.length - 1);
    state.page.set({ layer: text.layers[row], head: limit(model.get("head") + move[1], 0, text.heads - 1) });
    state.say();
  });
}

/**
 * @param {State} state
 * @param {HTMLElement} node  the large map, or the text
 */
export function hearTokenKeys(state, node) {
  node.addEventListener("keydown", (event) => {
    const count = state.text?.count ?? 0, move = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -count, End: count }[event.key];
    if (!takes(state, event, move || OTHER_KEYS.includes(event.key))) return;
    if (move) {
      const token = limit(Math.max(state.selected(), 0) + move, 0, count - 1), zoom = movedToRow(state.part(), token); // so that its row is in the part shown
      state.choose(token, zoom ? { zoom } : {});
    } else if (event.key === "+") zoomBy(state, 0.5);
    else if (event.key === "-") zoomBy(state, 2);
    else if (event.key === "Escape") goBack(state);
    else state.pin(state.selected());
  });
}

/** @param {State} state */
function zoomBy(state, factor) { state.page.set({ zoom: zoomedAround(state.part(), factor, state.selected(), state.text.count) }); }

/** Out of what was begun last: a rectangle, a part of the map, a selected token. @param {State} state */
function goBack(state) {
  if (state.drag) {
    state.drag = null;
    state.schedule("hover");
  } else if (state.model.get("zoom").length) state.page.set({ zoom: [] });
  else state.choose(-1);
}
