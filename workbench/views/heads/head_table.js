/** Tables in which a row selects a head. */
import { element } from "../shared/dom.js";
import { isSame } from "./state.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./scores.js").Head} Head */

/** What the keyboard finds in a row. @param {State} state @param {Head} spot @param {string} text */
export function headButton(state, spot, text) {
  const node = element("button", "", text);
  node.dataset.spot = `${state.scores.layers[spot.row]}/${spot.head}`;
  return node;
}

/**
 * @param {State} state
 * @param {(string|Node)[]} head  of the columns
 * @param {{cells: (string|Node)[], spot?: Head}[]} lines  spot: the head that a row selects
 * @param {number[]} texts        columns that are read from the left; the others are numbers
 */
export function headTable(state, head, lines, texts) {
  const cell = (tag, content, column) => element(tag, `${texts.includes(column) ? "text" : ""} ${head[column] === "tags" ? "tags" : ""}`.trim(), content);
  const rows = lines.map(({ cells, spot }) => {
    const row = element("tr", "", ...cells.map((content, column) => cell("td", content, column)));
    if (spot) {
      row.setAttribute("aria-current", String(isSame(spot, state.selected())));
      row.addEventListener("click", () => state.choose(spot)); // its button's clicks and keys arrive here too
    }
    return row;
  });
  return element("table", "", element("thead", "", element("tr", "", ...head.map((content, column) => cell("th", content, column)))), element("tbody", "", ...rows));
}
