/** Where the cells of the map of choices stand, in CSS pixels, and which one is at a point. */
import { limit } from "../shared/values.js";

/**
 * @typedef ChoiceGrid
 * @prop {number} width   of the whole map
 * @prop {number} left    of the first token
 * @prop {number} row     height of a group's row
 * @prop {number} gap     below a layer's rows
 *
 * @typedef {{layers: number, slots: number}} Shape  of a token's choices
 */

/** @param {number} width @param {Shape} shape @returns {ChoiceGrid} */
export function choiceGrid(width, { layers, slots }) {
  const row = limit(Math.floor(290 / (layers * slots)), 1, 10);
  return { width, left: 66, row, gap: row > 2 ? 4 : 1 };
}

/** Where a layer begins; of the number of layers, where the map ends. */
export const layerTop = (grid, slots, layer) => layer * (slots * grid.row + grid.gap);

/** How many tokens of this width fit, of `count`; at least one, if there is one. */
export const tokensShown = (grid, cell, count) => Math.min(count, Math.max(1, Math.floor((grid.width - grid.left) / cell)));

/**
 * The column, layer and slot at a point, null beside the tokens; the space below a layer belongs to its last slot.
 *
 * @param {ChoiceGrid} grid
 * @param {Shape} shape
 * @param {number} cell     width of a token
 * @param {number} columns  tokens on screen
 * @param {number[]} point  x and y
 */
export function choiceAt(grid, { layers, slots }, cell, columns, [x, y]) {
  const column = Math.floor((x - grid.left) / cell);
  if (column < 0 || column >= columns) return null;
  const layer = limit(Math.floor(y / (slots * grid.row + grid.gap)), 0, layers - 1);
  return { column, layer, slot: limit(Math.floor((y - layerTop(grid, slots, layer)) / grid.row), 0, slots - 1) };
}
