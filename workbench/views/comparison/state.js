/**
 * What the parts of a comparison share: traits, which Python and the page share, and what Python told beside them.
 *
 * @typedef {import("./view.js").Model} Model
 * @typedef {import("../shared/tokens.js").Step} Step
 *
 * @typedef Settings  of a column
 * @prop {string} label
 * @prop {string} model  its label
 * @prop {"slow"|"fast"|"auto"} thinking
 * @prop {number} temperature
 * @prop {number} top_p
 * @prop {number} top_k
 * @prop {number} min_p
 * @prop {number} repetition_penalty
 *
 * @typedef Told  what Python told; records are by a column's label
 * @prop {string[]} models  labels
 * @prop {number} before  turns of the conversation before the prompt
 * @prop {Record<string, Step[]>} steps
 * @prop {Record<string, {tokens?: number, reason?: string, tail?: string}>} statuses
 * @prop {Record<string, string>} weights  fingerprints; "" of a server's
 * @prop {Record<string, number[]>} differences  places of tokens that are not in the column of reference
 * @prop {string[]} changed  labels of columns of which something asked is no longer that of their text
 * @prop {string} error
 */

/** @type {Told} */
const NOTHING_TOLD = { models: [], before: 0, steps: {}, statuses: {}, weights: {}, differences: {}, changed: [], error: "" };

export class State {
  #page;

  /**
   * @param {{get: (name: string) => any}} model  the traits, see view.js
   * @param {ReturnType<typeof import("../shared/talk.js").talk>} page
   * @param {HTMLElement} root  which also tells, in its data, how far the page is
   * @param {(text: string) => void} say  in the line for what went wrong; "" takes it back
   */
  constructor(model, page, root, say) {
    this.model = model;
    this.root = root;
    this.say = say;
    this.told = structuredClone(NOTHING_TOLD);
    this.#page = page;
  }

  /** @template {keyof Model} Name @param {Name} trait @returns {Model[Name]} */
  get(trait) { return this.model.get(trait); }

  /** @param {Partial<Model>} traits */
  set(traits) { this.#page.set(traits); }

  /** Call something when one of these traits has changed. @param {(keyof Model)[]} traits @param {() => void} call */
  on(traits, call) { this.#page.on(traits.map((trait) => `change:${trait}`), call); }

  /** @param {string} kind  see the messages in view.js */
  send(kind) { this.#page.send({ kind }); }

  /** Set something of one column. @param {number} place @param {Partial<Settings>} values */
  change(place, values) { this.set({ columns: this.get("columns").map((settings, n) => (n === place ? { ...settings, ...values } : settings)) }); }

  /** @param {number} place  of a column */
  remove(place) { this.set({ columns: this.get("columns").filter((_, n) => n !== place) }); }
}

/**
 * What a record holds of a column, undefined if nothing: any text may be a label.
 * @template Value
 * @param {Record<string, Value>} byLabel
 * @param {string} label
 */
export const ofColumn = (byLabel, label) => (Object.hasOwn(byLabel, label) ? byLabel[label] : undefined);
