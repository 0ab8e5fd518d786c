/**
 * What the parts of a matrix share: traits, which Python and the page share, and what Python told beside them.
 *
 * @typedef {import("./view.js").Model} Model
 *
 * @typedef Shown  what there is to show of a cell
 * @prop {"waiting"|"running"|"done"|"error"} state
 * @prop {string} answer
 * @prop {string} thinking
 * @prop {[string, string][]} [written]  while it runs: text and span of every step
 * @prop {number} [tokens]
 * @prop {number|null} [logprob_mean]  natural logarithm
 * @prop {number|null} [seconds]
 * @prop {string} [reason]  why it ended
 * @prop {string} [error]
 * @prop {number|null} rating  1 to 5, null or 0 for none
 * @prop {string} note
 *
 * @typedef {[row: number, column: number, shown: Shown]} Cell
 *
 * @typedef Told  what Python told
 * @prop {string} template
 * @prop {string[]} variables  names
 * @prop {Record<string, string>[]} rows  values by variable
 * @prop {string[][]} columns  the parts of each column's name: model and setting
 * @prop {Cell[]} cells  of one row in order of columns
 * @prop {string} path  of the file that keeps the cells, or ""
 * @prop {number} stale  cells in the file that are not shown
 * @prop {number} done
 * @prop {number} failed
 * @prop {string} error
 */

/** @type {Told} */
const NOTHING_TOLD = { template: "", variables: [], rows: [], columns: [], cells: [], path: "", stale: 0, done: 0, failed: 0, error: "" };

export class State {
  #page;

  /**
   * @param {{get: (name: string) => any}} model  the traits, see view.js
   * @param {ReturnType<typeof import("../shared/talk.js").talk>} page
   */
  constructor(model, page) {
    this.model = model;
    this.told = structuredClone(NOTHING_TOLD);
    this.#page = page;
  }

  /** @template {keyof Model} Name @param {Name} trait @returns {Model[Name]} */
  get(trait) { return this.model.get(trait); }

  /** @param {number} cell */
  choose(cell) { this.#page.set({ cell }); }

  /** @param {string} kind  see the messages in view.js @param {object} [more] */
  send(kind, more) { this.#page.send({ kind, ...more }); }

  /** @param {number} cell @param {{rating?: number, note?: string}} marks */
  rate(cell, marks) { this.send("rate", { cell, ...marks }); }

  /** @param {number} cell @returns {Shown|undefined} */
  shown(cell) { return this.told.cells[cell]?.[2]; }
}
