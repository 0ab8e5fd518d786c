/** Where the large map is on its canvas, with what stands around it. */
import { limit } from "../shared/values.js";

/**
 * @typedef Place  in CSS pixels, but for tokens
 * @prop {number} x       left edge of the map
 * @prop {number} y       its upper edge
 * @prop {number} side    its width and height
 * @prop {number} strip   width of the column of the first tokens, 0 for none
 * @prop {number} gap     between that column and the map
 * @prop {number} band    of the colours that tell stretches, on the left and above
 * @prop {number} label   width of the words on the left, the band among them
 * @prop {number} below   height of the words under the map
 * @prop {number} profile  length of the bars on the right and below
 * @prop {number} rows    tokens
 * @prop {number} columns  tokens
 * @prop {number} r0      first row
 * @prop {number} c0      first column
 * @prop {boolean} rowWords     whether there is room for a piece at every row, else for numbers
 * @prop {boolean} columnWords  the same for columns
 * @prop {number} width   of the canvas
 * @prop {number} height  of the canvas
 */

/**
 * @param {object} given
 * @param {number[]} given.part  that is shown
 * @param {number} given.count  tokens of the text
 * @param {boolean} given.apart  whether the first tokens have a column of their own
 * @param {number} given.width  pixels that there are
 * @param {(from: number, to: number) => number} given.widest  pixels of the longest piece of some tokens
 * @returns {Place}
 */
export function placed({ part: [r0, r1, c0, c1], count, apart, width, widest }) {
  const rows = r1 - r0, columns = c1 - c0;
  const band = 7, profile = 46, strip = apart ? 15 : 0, gap = apart ? 5 : 0;
  const guess = limit(width - 150, 180, 560), rowWords = guess / rows >= 11, columnWords = guess / columns >= 11;
  const below = columnWords ? widest(c0, c1) + 8 : 18, free = width - strip - gap - profile - 22;
  const least = 76 - strip - gap; // for the words on the left of the bars, and for pins
  const labelOf = (from, to, words) => Math.max(least, (words ? widest(from, to) : 30) + 8 + band);
  // A part is as large as the whole: words of its rows get what room is left, and are drawn narrower.
  const side = limit(Math.min(free - labelOf(0, count, guess / count >= 11), Math.max(300, 26 * count)), 160, 600);
  const label = Math.max(least, Math.min(labelOf(r0, r1, rowWords), free - side));
  return { x: label + strip + gap, y: 28 + band, side, strip, gap, band, label, below, profile, rows, columns, r0, c0, rowWords, columnWords, width: label + strip + gap + side + profile + 20, height: 28 + band + side + below + profile + 4 };
}

/**
 * Left edge of a token's column.
 * @param {Place} place
 */
export const columnLeft = (place, token) => place.x + ((token - place.c0) / place.columns) * place.side;
/**
 * Upper edge of a token's row.
 * @param {Place} place
 */
export const rowTop = (place, token) => place.y + ((token - place.r0) / place.rows) * place.side;

/**
 * What is at a point: {row, column}, or {row, apart} in the column of the first tokens; null beside the map.
 * @param {Place} place
 * @param {[number, number]} point
 * @param {boolean} nearest  take the nearest weight where there is none
 * @returns {{row: number, column?: number, apart?: boolean}|null}
 */
export function cellAt(place, [px, py], nearest = false) {
  const u = (px - place.x) / place.side, v = (py - place.y) / place.side;
  if (!nearest && (v < 0 || v >= 1 || u >= 1 || px < place.label)) return null;
  const row = place.r0 + Math.floor(limit(v, 0, 0.999999) * place.rows);
  if (u < 0 && !nearest) return { row, apart: true };
  return { row, column: place.c0 + Math.floor(limit(u, 0, 0.999999) * place.columns) };
}
