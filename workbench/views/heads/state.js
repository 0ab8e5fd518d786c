/** What the parts of the heads view share: the scores, which of them is shown, and the head that is selected or pointed at. */
import { Shown } from "./shown.js";

/** @typedef {import("./view.js").Model} Model */
/** @typedef {import("./scores.js").Head} Head */

export class State {
  /** Null before the first message. @type {import("./scores.js").Scores} */
  scores = null;
  /** Under the pointer. @type {Head|null} */
  hover = null;
  #page;
  #speak;

  /**
   * @param {{get: (name: string) => any}} model  the traits, see view.js
   * @param {ReturnType<typeof import("../shared/talk.js").talk>} page
   * @param {(head: Head) => void} speak  tells a screen reader of a head that was chosen
   */
  constructor(model, page, speak) {
    this.model = model;
    this.#page = page;
    this.#speak = speak;
  }

  /** @template {keyof Model} Name @param {Name} trait @returns {Model[Name]} */
  get(trait) { return this.model.get(trait); }

  /** @param {Partial<Model>} traits */
  set(traits) { this.#page.set(traits); }

  /** What the traits show of the scores now. */
  shown() {
    const [score, relative, tagged_only, layer_order, head_order] = [this.get("score"), this.get("relative"), this.get("tagged_only"), this.get("layer_order"), this.get("head_order")];
    return new Shown(this.scores, { score, relative, tagged_only, layer_order, head_order });
  }

  /** Null if its layer was not recorded. @returns {Head|null} */
  selected() {
    const row = this.scores.layers.indexOf(this.get("layer"));
    return row < 0 ? null : { row, head: this.get("head") };
  }

  /** @param {Head} spot */
  choose(spot) {
    this.set({ layer: this.scores.layers[spot.row], head: spot.head });
    this.#speak(spot);
  }
}

/** @param {Head|null} one @param {Head|null} other */
export const isSame = (one, other) => one?.row === other?.row && one?.head === other?.head;
