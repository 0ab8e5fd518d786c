/**
 * The part of the large map that is shown. A zoomed map is as large as the whole one.
 * @typedef {number[]} Part  [first row, end row, first column, end column], in tokens
 */
import { limit } from "../shared/values.js";

/**
 * What is zoomed to, or the whole where the text has no such part.
 * @param {number[]} zoom  a part, or empty
 * @returns {Part}
 */
export const partShown = (zoom, count) => (zoom.length === 4 && zoom[1] <= count && zoom[3] <= count ? zoom : [0, count, 0, count]);

/**
 * The part from one cell to another; null if it is less than 2 × 2 tokens.
 * @param {{row: number, column?: number}} first
 * @param {{row: number, column?: number}} last
 * @returns {Part|null}
 */
export function partBetween(first, last) {
  const part = [Math.min(first.row, last.row), Math.max(first.row, last.row) + 1, Math.min(first.column, last.column), Math.max(first.column, last.column) + 1];
  return part[1] - part[0] > 1 && part[3] - part[2] > 1 ? part : null;
}

/**
 * The part with its sides `factor` times as long, around a token's row; empty for the whole.
 * @param {Part} part
 * @param {number} factor
 * @param {number} token  that its rows are around, -1 for none
 * @returns {number[]}
 */
export function zoomedAround([r0, r1, c0, c1], factor, token, count) {
  const middle = token < 0 ? r0 : token;
  const around = (from, to, at) => {
    const size = limit(Math.round((to - from) * factor), Math.min(4, count), count), start = limit(Math.round(at - size / 2), 0, count - size);
    return [start, start + size];
  };
  const next = [...around(r0, r1, middle), ...around(c0, c1, Math.min(middle, (c0 + c1) / 2))];
  return next[1] - next[0] === count && next[3] - next[2] === count ? [] : next;
}

/**
 * The part moved up or down until a token's row is in it; null if it is already.
 * @param {Part} part
 * @returns {Part|null}
 */
export function movedToRow([r0, r1, c0, c1], token) {
  const down = Math.min(0, token - r0) + Math.max(0, token + 1 - r1);
  return down ? [r0 + down, r1 + down, c0, c1] : null;
}
