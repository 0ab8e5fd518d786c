/** The template, and the grid of its cells: one row per prompt, one column per setting and model. */
import { element } from "../shared/dom.js";
import { CellBox } from "./cell.js";
import { visible } from "./visible.js";
import { ratedWords, rowsWords, templateParts } from "./words.js";

/** @typedef {import("./state.js").State} State */

/** Everything goes through text nodes. @param {State} state */
export function cellGrid(state) {
  const template = element("div", "template"), frame = element("div", "frame");
  template.dir = "auto";
  /** @type {CellBox[]} */
  let boxes = [];
  /** Of each column, the mean of its ratings. @type {HTMLElement[]} */
  let means = [];

  /** Once: a view keeps its matrix, and what is being typed outlives a later state. */
  function build() {
    const { told } = state, table = element("table"), head = element("tr", "", element("th", "soft", rowsWords(told.variables)));
    template.replaceChildren(...templateParts(told.template).flatMap(({ text, variable }) => (variable ? [element("b", "", variable)] : visible(text))));
    table.style.setProperty("--columns", String(told.columns.length));
    table.setAttribute("role", "grid");
    means = told.columns.map((parts) => {
      const mean = element("div", "soft small");
      head.append(columnHead(parts, mean));
      return mean;
    });
    const rows = told.rows.map((values) => element("tr", "", rowHead(told.variables, values)));
    boxes = told.cells.map((_, place) => new CellBox(state, place, (next) => boxes[next].node.focus()));
    told.cells.forEach(([row], place) => rows[row].append(boxes[place].node));
    table.append(element("colgroup", "", element("col", "names")), element("thead", "", head), element("tbody", "", ...rows));
    frame.replaceChildren(table);
  }
  function draw() {
    if (!boxes.length) build();
    for (const box of boxes) box.draw();
  }
  function drawRatings() {
    means.forEach((mean, column) => { mean.textContent = ratedWords(state.told.cells.filter((cell) => cell[1] === column).map(([, , shown]) => shown.rating)); });
  }
  function select() {
    boxes.forEach((box, place) => box.node.setAttribute("aria-selected", String(place === state.get("cell"))));
  }
  return { template, frame, draw, drawRatings, select, /** @param {number} place */ box: (place) => boxes[place] };
}

/** @param {string[]} parts  of its name; the last one is the setting @param {HTMLElement} mean */
function columnHead(parts, mean) {
  const th = element("th", "", ...parts.map((part, place) => element("div", place < parts.length - 1 ? "soft" : "", part)), mean);
  th.scope = "col";
  return th;
}

/** @param {string[]} variables @param {Record<string, string>} values */
function rowHead(variables, values) {
  const th = element("th");
  th.scope = "row";
  for (const name of variables) {
    const value = element("span", "variable", ...visible(values[name]));
    value.dir = "auto";
    if (variables.length > 1) th.append(element("span", "soft small", name));
    th.append(value);
  }
  return th;
}
