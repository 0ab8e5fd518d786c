/** Tables of the selected token: what it attends to most, and what attends most to it. */
import { element, refill } from "../shared/dom.js";
import { quoted } from "../shared/values.js";
import { numberTable } from "./number_table.js";
import { strongestPlaces } from "./strongest.js";
import { NO_DIFFERENCE, percent, shownPiece, signed } from "./writing.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./weights.js").Pair} Pair */

const LIST = 8; // tokens in a list

/**
 * @param {State} state
 * @param {HTMLElement} otherwise  gets the keyboard's focus where a button of it has gone
 */
export function tokenLists(state, otherwise) {
  const before = element("div"), after = element("div");

  function draw() {
    const pair = state.pair(), token = state.selected(), { pieces, count } = state.text;
    if (!pair || token < 0 || token >= pair.rows) {
      refill(before, otherwise, element("p", "soft", token < 0 ? "No token is selected." : pair ? `Token ${token}, ${quoted(pieces[token])}: ${NO_DIFFERENCE}.` : ""));
      refill(after, otherwise);
      return;
    }
    const row = pair.rowOf(token, count), column = pair.columnOf(token, count), name = `token ${token}, ${quoted(pieces[token])}`;
    const attended = strongestPlaces(row, 0, token + 1, LIST).map((other) => line(pair, token, other, other, row[other]));
    const attending = strongestPlaces(column, token, count, LIST).map((other) => line(pair, other, token, other, column[other]));
    refill(before, otherwise, numberTable(`What ${name}, attends to`, head(), attended));
    refill(after, otherwise, numberTable(`What attends to ${name}`, head(), attending));
  }

  function head() { return ["token", "piece", ...(state.comparing() ? ["this", "other", "difference"] : ["attention", "uniform"])]; }

  /**
   * A line of a table: another token, and how much `row` attends to `column`.
   * @param {Pair} pair
   */
  function line(pair, row, column, token, value) {
    const go = element("button", "", String(token));
    go.addEventListener("click", () => state.choose(token));
    const numbers = pair.other
      ? [percent(pair.one.weight(row, column)), percent(pair.other.weight(row, column)), signed(value)]
      : [percent(value), percent(1 / (row + 1))]; // spread evenly over the token and all before it
    return [go, shownPiece(state.text.pieces[token]), ...numbers];
  }

  return { element: element("div", "two", before, after), draw };
}
