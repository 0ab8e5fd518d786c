/** The pointer on the large map: moving shows a weight, a click selects its row, a drawn rectangle is zoomed to. */
import { spot } from "../shared/canvas.js";
import { partBetween } from "./map_part.js";
import { cellAt } from "./map_place.js";

const DRAWN = 5; // pixels from which on a click is a rectangle

/**
 * @param {import("./state.js").State} state
 * @param {HTMLCanvasElement} map
 * @param {() => import("./map_place.js").Place|null} place
 */
export function hearMapPointer(state, map, place) {
  map.addEventListener("pointermove", (event) => {
    if (!state.text?.count || !place()) return;
    const at = spot(map, event), { drag, hover } = state;
    if (drag) {
      if (Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) > DRAWN) drag.to = at;
      state.schedule("hover");
      return;
    }
    const next = cellAt(place(), at);
    if (next?.row !== hover?.row || next?.column !== hover?.column || next?.apart !== hover?.apart) state.point(next);
  });
  map.addEventListener("pointerdown", (event) => {
    if (event.button || !state.text?.count || !cellAt(place(), spot(map, event))) return;
    state.drag = { from: spot(map, event), to: null };
    map.setPointerCapture(event.pointerId);
  });
  map.addEventListener("pointerup", (event) => {
    if (!state.drag) return;
    const { from, to } = state.drag, first = cellAt(place(), from, true);
    state.drag = null;
    const zoom = to && partBetween(first, cellAt(place(), to, true));
    if (zoom) {
      state.hover = null;
      state.page.set({ zoom });
    } else if (event.shiftKey) state.pin(first.row);
    else state.choose(first.row);
  });
  map.addEventListener("pointercancel", () => {
    state.drag = null;
    state.schedule("hover");
  });
  map.addEventListener("pointerleave", () => state.leave());
}
