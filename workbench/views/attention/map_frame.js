/** What stands around the large map: borders of stretches and turns, and words or numbers of its tokens. */
import { ticks } from "./axis.js";
import { CODE_FONT, PLAIN_FONT, writeUpwards } from "./canvas_text.js";
import { columnLeft, rowTop } from "./map_place.js";
import { shownPiece } from "./writing.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./map_place.js").Place} Place */

const SPAN_COLOURS = { prompt: "#8a8f98", thinking: "#a35dc9", answer: "#2f9e6e" };

/**
 * @param {CanvasRenderingContext2D} context
 * @param {State} state
 * @param {Place} place
 */
export function drawMapFrame(context, state, place) {
  const { x, y, side, strip, label } = place;
  context.strokeStyle = state.theme.line;
  context.lineWidth = 1;
  context.strokeRect(x - 0.5, y - 0.5, side + 1, side + 1);
  if (strip) context.strokeRect(label - 0.5, y - 0.5, strip + 1, side + 1);
  drawStretches(context, state, place);
  for (const span of state.text.spans) drawBorder(context, state, place, span.start, []);
  for (const turn of state.text.turns) drawBorder(context, state, place, turn, [2, 3]);
  context.fillStyle = state.theme.ink;
  drawRowWords(context, state, place);
  drawColumnWords(context, state, place);
  if (!strip) return;
  context.fillStyle = state.theme.soft;
  context.textAlign = "right";
  context.fillText(state.sink() === 1 ? "first token" : `first ${state.sink()}`, label + strip - 1, y - 6);
}

/**
 * Bands on the left and above, with the names of stretches where they fit.
 * @param {CanvasRenderingContext2D} context
 * @param {State} state
 * @param {Place} place
 */
function drawStretches(context, state, place) {
  const { y, band } = place, [r0, r1, c0, c1] = state.part();
  for (const span of state.text.spans) {
    context.fillStyle = SPAN_COLOURS[span.kind] ?? state.theme.soft;
    const rows = [Math.max(span.start, r0), Math.min(span.end, r1)], columns = [Math.max(span.start, c0), Math.min(span.end, c1)];
    if (rows[1] > rows[0]) context.fillRect(0, rowTop(place, rows[0]), band - 2, rowTop(place, rows[1]) - rowTop(place, rows[0]) - 1);
    if (columns[1] <= columns[0]) continue;
    const from = columnLeft(place, columns[0]), to = columnLeft(place, columns[1]);
    context.fillRect(from, y - band - 1, to - from - 1, band - 2);
    context.textAlign = "left";
    if (context.measureText(span.kind).width < to - from) context.fillText(span.kind, from, y - band - 9);
  }
}

/**
 * Lines before a token, across and down.
 * @param {CanvasRenderingContext2D} context
 * @param {State} state
 * @param {Place} place
 * @param {number} token
 * @param {number[]} dash
 */
function drawBorder(context, state, place, token, dash) {
  const { x, y, side, strip, label } = place, [r0, r1, c0, c1] = state.part();
  context.setLineDash(dash);
  context.strokeStyle = state.theme.ink;
  context.globalAlpha = dash.length ? 0.45 : 0.8;
  context.beginPath();
  if (token > r0 && token < r1) {
    const at = Math.round(rowTop(place, token)) - 0.5;
    context.moveTo(strip ? label : x, at);
    context.lineTo(x + side, at);
  }
  if (token > c0 && token < c1) {
    const at = Math.round(columnLeft(place, token)) - 0.5;
    context.moveTo(at, y);
    context.lineTo(at, y + side);
  }
  context.stroke();
  context.globalAlpha = 1;
  context.setLineDash([]);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {State} state
 * @param {Place} place
 */
function drawRowWords(context, state, place) {
  const { y, label, band } = place, [r0, r1] = state.part();
  const middle = (token) => (rowTop(place, token) + rowTop(place, token + 1)) / 2;
  context.textAlign = "right";
  context.save();
  context.beginPath();
  context.rect(band, 0, label - band, place.height);
  context.clip();
  if (place.rowWords) {
    context.font = CODE_FONT;
    for (let token = r0; token < r1; token++) context.fillText(shownPiece(state.text.pieces[token]), label - 4, middle(token), label - 6 - band);
  } else for (const token of ticks(r0, r1)) context.fillText(String(token), label - 4, Math.max(y + 5, middle(token)));
  context.restore();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {State} state
 * @param {Place} place
 */
function drawColumnWords(context, state, place) {
  const below = place.y + place.side, [, , c0, c1] = state.part();
  const middle = (token) => (columnLeft(place, token) + columnLeft(place, token + 1)) / 2;
  if (place.columnWords) {
    context.font = CODE_FONT;
    context.textAlign = "right";
    for (let token = c0; token < c1; token++) writeUpwards(context, shownPiece(state.text.pieces[token]), middle(token), below + 4);
    context.font = PLAIN_FONT;
  } else {
    context.textAlign = "center";
    for (const token of ticks(c0, c1)) context.fillText(String(token), middle(token), below + 9);
  }
}
