/** Where the cells of the map stand, in CSS pixels, and which one is where. Nothing here draws. */
import { limit } from "../shared/values.js";

export const LEFT = 46, TOP = 22; // room for labels
const GAP = 5; // between key-value heads
const WIDEST = 46; // cell
const RIGHT = 4, BELOW = 34; // everything: the legend
const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -Infinity], End: [0, Infinity] };

/**
 * @typedef MapGrid
 * @prop {number} lines    layers
 * @prop {number} columns  heads of each
 * @prop {number} cell     width
 * @prop {number} height   of a cell
 * @prop {number} gap      after each group of columns
 * @prop {number} group    columns
 *
 * @typedef {{layers: number[], heads: number, kv_heads: number}} MapShape
 * @typedef {{line: number, column: number}} MapPlace
 */

/** Where columns are ranks, heads that share a key–value head do not stand together. @param {boolean} isByRank */
const gapOf = (isByRank) => (isByRank ? 0 : GAP);
const around = ({ kv_heads }, gap) => LEFT + RIGHT + (kv_heads - 1) * gap;

/** How wide the map is at most. @param {MapShape} shape @param {boolean} isByRank */
export const widestMap = (shape, isByRank) => around(shape, gapOf(isByRank)) + shape.heads * WIDEST;

/** @param {number} width  that there is @param {MapShape} shape @param {boolean} isByRank @returns {MapGrid} */
export function mapGrid(width, shape, isByRank) {
  const { layers, heads, kv_heads } = shape, gap = gapOf(isByRank);
  const cell = limit(Math.floor((width - around(shape, gap)) / heads), 9, WIDEST);
  return { lines: layers.length, columns: heads, cell, height: limit(Math.floor(cell * 0.8), 11, 26), gap, group: heads / kv_heads };
}

/** @param {MapGrid} grid @param {number} column */
export const columnLeft = ({ cell, gap, group }, column) => LEFT + column * cell + Math.floor(column / group) * gap;
/** @param {MapGrid} grid @param {number} line */
export const lineTop = ({ height }, line) => TOP + line * height;
/** @param {MapGrid} grid */
export const mapWidth = ({ cell, gap, group, columns }) => LEFT + columns * cell + (columns / group - 1) * gap + RIGHT;
/** @param {MapGrid} grid */
export const mapHeight = ({ lines, height }) => TOP + lines * height + BELOW;

/** Null beside the cells. @param {MapGrid} grid @param {number[]} point  x and y @returns {MapPlace|null} */
export function placeAt(grid, [x, y]) {
  const line = Math.floor((y - TOP) / grid.height);
  if (line < 0 || line >= grid.lines) return null;
  for (let column = 0; column < grid.columns; column++) if (x >= columnLeft(grid, column) && x < columnLeft(grid, column) + grid.cell) return { line, column };
  return null;
}

/** Where a key leads; null if it is none of those that move. @param {string} key @param {MapPlace} place @param {MapGrid} grid @returns {MapPlace|null} */
export function placeAfter(key, { line, column }, { lines, columns }) {
  if (!Object.hasOwn(MOVES, key)) return null;
  const [down, along] = MOVES[key];
  return { line: limit(line + down, 0, lines - 1), column: limit(column + along, 0, columns - 1) };
}
