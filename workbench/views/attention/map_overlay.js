/** What lies over the large map and changes with the pointer: bars of one token, frames, a rectangle. */
import { pen, wipe } from "../shared/canvas.js";
import { element } from "../shared/dom.js";
import { limit } from "../shared/values.js";
import { drawBars } from "./bars.js";
import { writeUpwards } from "./canvas_text.js";
import { columnLeft, rowTop } from "./map_place.js";
import { largestSize } from "./strongest.js";
import { NO_DIFFERENCE, percent } from "./writing.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./map_place.js").Place} Place */

const OUTSIDE = "outside the visible part";

/**
 * Colours of bars: of differences by their sign, else one.
 * @param {State} state
 * @param {"row"|"column"} what  the token attends to, or what attends to it
 * @returns {(value: number) => string}
 */
export function barColours(state, what) {
  const { css } = state.comparing() ? state.theme.difference : state.theme[what];
  return state.comparing() ? (value) => css[value < 0 ? 50 : 205] : () => css[165];
}
/** A row without the first tokens, which stand in a column of their own. */
export const withoutFirst = (values, count) => values.slice().fill(0, 0, count);

/** @param {State} state */
export function mapOverlay(state) {
  /** @type {HTMLCanvasElement} */
  const over = element("canvas", "over");

  /** @param {Place} place */
  function resize(place) { pen(over, place.width, place.height); }

  /** @param {Place} place */
  function draw(place) {
    const context = wipe(over), profile = state.profile(), { x, y, side, below } = place;
    if (profile) drawProfile(context, place, profile);
    else if (state.withoutDifference()) {
      context.fillStyle = state.theme.soft;
      context.textAlign = "left";
      context.fillText(NO_DIFFERENCE, x, y + side + below + place.profile - 13);
    }
    drawMarks(context, place);
    if (state.drag?.to) drawRectangle(context, place);
    state.root.dataset.focus = String(state.focus());
  }

  /**
   * Bars of the token in focus: below, what it attends to; on the right, what attends to it.
   * @param {CanvasRenderingContext2D} context
   * @param {Place} place
   * @param {import("./state.js").Profile} values
   */
  function drawProfile(context, { x, y, side, below, profile, width }, { row, column }) {
    const [r0, r1, c0, c1] = state.part(), token = state.focus(), first = state.sink(), { count } = state.text;
    const foot = y + side + below + profile, right = x + side + 5;
    const before = largestSize(row, first, token + 1), after = largestSize(column, token + 1, count);
    const colourBefore = barColours(state, "row"), colourAfter = barColours(state, "column");
    drawBars(withoutFirst(row, first), c0, c1, side, profile - 4, before, (value, at, wide, length) => {
      context.fillStyle = colourBefore(value);
      context.fillRect(x + at, foot - length, wide, length);
    });
    drawBars(column, r0, r1, side, profile - 4, after, (value, at, wide, length) => {
      context.fillStyle = colourAfter(value);
      context.fillRect(right, y + at, length, wide);
    });
    context.fillStyle = state.theme.soft;
    context.fillRect(x, foot, side, 1);
    context.fillRect(right - 1, y, 1, side);
    context.textAlign = "right";
    context.fillText("attends to", x - 5, foot - 20);
    context.fillText(`top ${percent(before)}`, x - 5, foot - 6);
    if (token + 1 < count) {
      context.fillText("attended by", width, y - 28);
      context.fillText(`top ${percent(after)}`, width, y - 16);
    }
    context.textAlign = "center";
    if (token >= first && Math.max(c0, first) >= Math.min(c1, token + 1)) context.fillText(OUTSIDE, x + side / 2, foot - 13);
    const none = token + 1 === count ? "no later token" : token + 1 >= r1 ? OUTSIDE : "";
    if (none) writeUpwards(context, none, right + profile / 2, y + side / 2);
  }

  /**
   * Dots of pins, and frames of the selected token's row and of what is under the pointer.
   * @param {CanvasRenderingContext2D} context
   * @param {Place} place
   */
  function drawMarks(context, place) {
    const { x, y, side } = place, { theme, hover } = state, [r0, r1, c0, c1] = state.part();
    for (const pinned of state.model.get("pins")) {
      if (pinned < r0 || pinned >= r1) continue;
      context.fillStyle = theme.mark;
      context.beginPath();
      context.arc(x + side + 2, (rowTop(place, pinned) + rowTop(place, pinned + 1)) / 2, 3, 0, 7);
      context.fill();
    }
    const frameRow = (token, colour, width) => {
      context.strokeStyle = colour;
      context.lineWidth = width;
      if (token >= r0 && token < r1) context.strokeRect(x - 1, rowTop(place, token) - 0.5, side + 2, Math.max(2, side / place.rows + 1));
    };
    if (state.selected() >= 0) frameRow(state.selected(), theme.mark, 1.5);
    if (state.pointed() >= 0) frameRow(state.pointed(), theme.ink, 1);
    const token = hover?.token ?? hover?.column ?? -1;
    context.strokeStyle = theme.ink;
    context.lineWidth = 1;
    if (token >= c0 && token < c1) context.strokeRect(columnLeft(place, token) - 0.5, y - 1, Math.max(2, side / place.columns + 1), side + 2);
  }

  /**
   * The rectangle that is drawn now.
   * @param {CanvasRenderingContext2D} context
   * @param {Place} place
   */
  function drawRectangle(context, { x, y, side }) {
    const { from, to } = state.drag;
    const [ax, bx] = [from[0], to[0]].map((at) => limit(at, x, x + side)), [ay, by] = [from[1], to[1]].map((at) => limit(at, y, y + side));
    context.strokeStyle = state.theme.ink;
    context.lineWidth = 1.5;
    context.setLineDash([4, 3]);
    context.strokeRect(Math.min(ax, bx), Math.min(ay, by), Math.abs(ax - bx), Math.abs(ay - by));
    context.setLineDash([]);
  }

  return { element: over, resize, draw };
}
