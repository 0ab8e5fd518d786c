/** The same numbers as the map, of all scores, as a table that can be sorted. */
import { element, refill } from "../shared/dom.js";
import { headButton, headTable } from "./head_table.js";
import { columnsOf, sorted } from "./number_columns.js";

/** @param {import("./state.js").State} state @param {HTMLElement} otherwise  gets the keyboard's focus where a button is gone */
export function numberTable(state, otherwise) {
  const holder = element("div", "numbers"), toggle = element("button", "plain", "table");
  let order = { column: "", up: false };
  holder.hidden = true;
  holder.tabIndex = 0;
  toggle.setAttribute("aria-expanded", "false");
  toggle.addEventListener("click", () => {
    holder.hidden = !holder.hidden;
    toggle.setAttribute("aria-expanded", String(!holder.hidden));
    draw();
  });

  function draw() {
    if (holder.hidden) return;
    const columns = columnsOf(state.scores), last = columns.length - 1;
    const lines = sorted(state.scores.all(), columns, order).map((spot) => ({
      spot, cells: columns.map(({ words }, n) => (n ? words(spot) : headButton(state, spot, words(spot)))),
    }));
    refill(holder, otherwise, headTable(state, columns.map(({ name }) => sorter(name)), lines, [last]));
  }
  /** The head of a column: sorts by it, the highest first, then the lowest. @param {string} name */
  function sorter(name) {
    const here = name === order.column, button = element("button", "", name + (here ? (order.up ? " ▲" : " ▼") : ""));
    button.addEventListener("click", () => {
      order = { column: name, up: here && !order.up };
      draw();
    });
    return button;
  }
  return { element: holder, toggle, draw };
}
