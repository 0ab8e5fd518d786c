/** The map: layers × heads, coloured by the score; the pointer and keys. */
import { outline, pen, spot } from "../shared/canvas.js";
import { css, onTop } from "../shared/colours.js";
import { element } from "../shared/dom.js";
import { drawRamp } from "../shared/legend.js";
import { LEFT, TOP, columnLeft, lineTop, mapGrid, mapHeight, mapWidth, placeAfter, placeAt } from "./map_grid.js";
import { isSame } from "./state.js";
import { themeOf } from "./theme.js";
import { cellWords, written } from "./words.js";

/** @typedef {import("./scores.js").Head} Head */

/**
 * What was drawn last.
 *
 * @typedef Drawn
 * @prop {CanvasRenderingContext2D} context
 * @prop {import("./theme.js").Theme} theme
 * @prop {import("./map_grid.js").MapGrid} grid
 * @prop {import("./shown.js").Shown} shown
 * @prop {number[]} rows      [line]
 * @prop {number[][]} columns  heads [line][column]
 * @prop {boolean} isWritten  whether cells have room for words
 * @prop {number} low  what the ramp of colours goes from
 * @prop {number} top  and to
 * @prop {boolean} isComplete  whether every head has a score
 */

/**
 * @param {import("./state.js").State} state
 * @param {HTMLElement} root
 * @param {(spot: Head|null) => void} point  called with the head under the pointer when that is another one
 */
export function headMap(state, root, point) {
  const canvas = element("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "layers by heads, coloured by the score; arrow keys move the selection; the tables hold the same numbers");
  /** @type {Drawn} */
  let drawn = null;

  /** @param {number} width  that there is */
  function draw(width) {
    const shown = state.shown(), grid = mapGrid(width, state.scores, shown.isByRank), rows = shown.rows(), known = shown.known();
    const context = pen(canvas, mapWidth(grid), mapHeight(grid)), [low, top] = shown.range(known);
    drawn = {
      context, theme: themeOf(root), grid, shown, rows, columns: rows.map((row) => shown.columns(row)), low, top,
      isWritten: grid.cell >= 34 && grid.height >= 16, isComplete: known.length === state.scores.all().length,
    };
    drawCells(drawn);
    drawLabels(drawn);
    drawLegend(drawn);
    outlineHead(drawn, state.hover, drawn.theme.ink, 1.5);
    outlineHead(drawn, state.selected(), drawn.theme.mark, 3);
  }

  /** @param {import("./map_grid.js").MapPlace} place @returns {Head} */
  const headOf = ({ line, column }) => ({ row: drawn.rows[line], head: drawn.columns[line][column] });
  function under(event) {
    const place = drawn && placeAt(drawn.grid, spot(canvas, event));
    return place && headOf(place);
  }
  function pointAt(head) { if (!isSame(head, state.hover)) point(head); }
  canvas.addEventListener("mousemove", (event) => pointAt(under(event)));
  canvas.addEventListener("mouseleave", () => pointAt(null));
  canvas.addEventListener("click", (event) => {
    const head = under(event);
    if (head) state.choose(head);
  });
  canvas.addEventListener("keydown", (event) => {
    const selected = drawn && state.selected(), next = selected && placeAfter(event.key, placeOf(drawn, selected), drawn.grid);
    if (!next) return;
    event.preventDefault();
    event.stopPropagation();
    state.choose(headOf(next));
  });
  return { canvas, draw };
}

/** @param {Drawn} drawn @param {Head} head */
function placeOf({ rows, columns }, { row, head }) {
  const line = rows.indexOf(row);
  return { line, column: columns[line].indexOf(head) };
}

/** @param {Drawn} drawn */
function drawCells(drawn) {
  const { context, theme, grid, shown } = drawn, { cell, height } = grid;
  drawn.rows.forEach((row, line) => drawn.columns[line].forEach((head, column) => {
    const x = columnLeft(grid, column), y = lineTop(grid, line);
    if (!shown.isLeftOut({ row, head })) return drawCell(drawn, { row, head }, x, y);
    context.globalAlpha = 0.35;
    outline(context, theme.soft, 1, x + 0.5, y + 0.5, cell - 2, height - 2);
    context.globalAlpha = 1;
  }));
}

/** @param {Drawn} drawn @param {Head} spot @param {number} x @param {number} y */
function drawCell({ context, theme, grid, shown, low, top, isWritten }, spot, x, y) {
  const { cell, height } = grid, score = shown.score(spot), fill = theme.ramp(Number.isFinite(score) ? (score - low) / (top - low) : 0);
  context.fillStyle = css(fill);
  context.fillRect(x, y, cell - 1, height - 1);
  context.fillStyle = onTop(fill);
  context.textAlign = "center";
  if (isWritten) context.fillText(shown.isByRank ? `h${spot.head}` : cellWords(score, top), x + cell / 2 - 0.5, y + height / 2);
  if (!shown.isTagged(spot)) return;
  const [right, below] = isWritten ? [cell - 6, 5] : [cell / 2 - 0.5, height / 2 - 0.5]; // beside what is written
  context.beginPath();
  context.arc(x + right, y + below, 2.5, 0, 7);
  context.fill();
}

/** Layers on the left, heads or ranks above. @param {Drawn} drawn */
function drawLabels({ context, theme, grid, shown, rows }) {
  const { cell, height } = grid, { layers, heads } = shown.scores, step = cell >= 18 ? 1 : cell >= 12 ? 2 : 4;
  context.fillStyle = theme.ink;
  context.textAlign = "right";
  rows.forEach((row, line) => context.fillText(String(layers[row]), LEFT - 8, lineTop(grid, line) + height / 2));
  context.textAlign = "center";
  for (let column = 0; column < heads; column += step) context.fillText(shown.isByRank ? `${column + 1}.` : String(column), columnLeft(grid, column) + cell / 2, TOP / 2 + 2);
  context.fillStyle = theme.soft;
  context.textAlign = "right";
  context.fillText(shown.isByRank ? "rank" : "head", LEFT - 8, TOP / 2 + 2);
  context.save();
  context.translate(8, lineTop(grid, rows.length / 2));
  context.rotate(-Math.PI / 2);
  context.textAlign = "center";
  context.fillText("layer", 0, 0);
  context.restore();
}

/** @param {Drawn} drawn */
function drawLegend({ context, theme, grid, shown, low, top, isComplete }) {
  const y = lineTop(grid, grid.lines) + 16, width = Math.min(140, mapWidth(grid) - LEFT - 120), { measure } = shown;
  drawRamp(context, { x: LEFT + 14, y: y - 5, width, height: 10 }, (pixel) => theme.ramp(pixel / width));
  context.fillStyle = theme.ink;
  context.textAlign = "right";
  context.fillText(low ? written(measure, low) : "0", LEFT + 10, y);
  context.textAlign = "left";
  context.fillText(`${written(measure, top)}${measure.pattern ? "   ● tagged" : ""}${isComplete ? "" : "   –: no score"}`, LEFT + 20 + width, y);
}

/** @param {Drawn} drawn @param {Head|null} head @param {string} colour @param {number} width */
function outlineHead(drawn, head, colour, width) {
  if (!head) return;
  const { context, grid } = drawn, { line, column } = placeOf(drawn, head);
  outline(context, colour, width, columnLeft(grid, column) - 1.5, lineTop(grid, line) - 1.5, grid.cell + 2, grid.height + 2);
}
