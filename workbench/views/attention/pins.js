/** Rows of pinned tokens, one below the other under the large map. */
import { pen } from "../shared/canvas.js";
import { element, refill } from "../shared/dom.js";
import { drawBars } from "./bars.js";
import { barColours, withoutFirst } from "./map_overlay.js";
import { largestSize } from "./strongest.js";
import { NO_DIFFERENCE, percent, shownPiece } from "./writing.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./map_place.js").Place} Place */

/**
 * @param {State} state
 * @param {HTMLElement} otherwise  gets the keyboard's focus where the last pin is let go
 */
export function pinnedRows(state, otherwise) {
  const pins = element("div", "pins");

  /** @param {Place} place  of the map, under which they stand */
  function draw(place) {
    const list = state.model.get("pins").filter((pin) => pin < state.text.count);
    refill(pins, otherwise, ...list.map((token) => {
      const head = nameOf(token);
      head.style.width = `${place.x}px`;
      return element("div", "pin", head, rowOfBars(token, place.side));
    }));
  }

  function nameOf(token) {
    const drop = element("button", "drop", "×"), name = element("button", "", `${token} ${shownPiece(state.text.pieces[token])}`);
    drop.setAttribute("aria-label", `unpin token ${token}`);
    drop.addEventListener("click", () => state.pin(token));
    name.addEventListener("click", () => state.choose(token));
    return element("span", "", name, drop);
  }

  function rowOfBars(token, side) {
    const canvas = element("canvas"), context = pen(canvas, side, 24), pair = state.pair();
    if (pair) {
      const [, , c0, c1] = state.part(), first = state.sink(), colour = barColours(state, "row");
      const values = pair.rowOf(token, state.text.count), top = largestSize(values, first, token + 1);
      drawBars(withoutFirst(values, first), c0, c1, side, 20, top, (value, at, wide, length) => {
        context.fillStyle = colour(value);
        context.fillRect(at, 24 - length, wide, length);
      });
      canvas.title = token < pair.rows ? `token ${token} attends to; highest bar ${percent(top)}` : NO_DIFFERENCE;
    }
    context.fillStyle = state.theme.line;
    context.fillRect(0, 23, side, 1);
    return canvas;
  }

  return { element: pins, draw };
}
