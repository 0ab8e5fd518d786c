/** All columns beside one another, and what differs between them. */
import { element } from "../shared/dom.js";
import { Column } from "./column.js";
import { firstDifference } from "./differences.js";
import { samePlaces } from "./settings.js";
import { ofColumn } from "./state.js";
import { comparedWords } from "./words.js";

/**
 * @param {import("./state.js").State} state
 * @param {HTMLElement} otherwise  gets the keyboard's focus when the column that had it is gone
 */
export function columnsOf(state, otherwise) {
  const grid = element("div", "columns");
  /** @type {Column[]} */
  let all = [];

  /** A column keeps its box, also under another label: a click on it is not lost, nor the keyboard. */
  function draw() {
    const settings = state.get("columns"), old = all, inside = grid.contains(document.activeElement);
    const places = samePlaces(settings.map(({ label }) => label), old.map(({ label }) => label));
    all = places.map((place) => old[place] ?? new Column(state));
    for (const column of old) if (!all.includes(column)) column.box.remove();
    all.forEach((column, place) => {
      if (grid.children[place] !== column.box) grid.insertBefore(column.box, grid.children[place] || null);
      column.show(settings[place], place);
    });
    if (inside && !grid.contains(document.activeElement)) otherwise.focus();
  }
  /** Make all boxes anew, for other models. */
  function clear() { all.splice(0).forEach((column) => column.box.remove()); }
  const base = () => all[state.get("reference")] || all[0];

  /** @param {Column} column */
  function differenceOf(column) {
    const { weights } = state.told, known = ofColumn(weights, column.label);
    return firstDifference(column.steps, base().steps, Boolean(known) && known === ofColumn(weights, base().label), state.get("running"));
  }
  function drawMarks() {
    const running = state.get("running"), { statuses, differences, changed } = state.told;
    for (const column of all) {
      const isBase = column === base(), first = isBase ? -1 : differenceOf(column);
      column.close(running, all.length < 2);
      column.mark({ isBase, first, others: running ? [] : ofColumn(differences, column.label) || [] });
      column.tell({ reason: ofColumn(statuses, column.label)?.reason, compared: isBase ? "" : comparedWords(first, column.steps.length, running), changed: changed.includes(column.label) }, running);
    }
  }
  /** How many columns have a text besides that of reference, and the same one; none if that has no text. */
  function counts() {
    const label = base()?.label;
    if (!base()?.steps.length) return { label, others: 0, same: 0 };
    const others = all.filter((column) => column !== base() && column.steps.length);
    return { label, others: others.length, same: others.filter((column) => differenceOf(column) < 0).length };
  }

  function write() { for (const column of all) column.write(ofColumn(state.told.steps, column.label) || []); }

  return {
    element: grid, draw, clear, drawMarks, counts, write,
    /** @param {string} label */ find: (label) => all.find((column) => column.label === label),
    hasText: () => Boolean(base()?.steps.length),
  };
}
