/** What the colours tell: one score of every head, which heads are left out, and in which order they stand. Nothing here draws. */

/** @typedef {import("./scores.js").Head} Head */

/** What is not a number stands last. @param {number} value */
const rank = (value) => (Number.isFinite(value) ? value : -Infinity);

export class Shown {
  #choice;

  /**
   * @param {import("./scores.js").Scores} scores
   * @param {Pick<import("./view.js").Model, "score"|"relative"|"tagged_only"|"layer_order"|"head_order">} choice
   */
  constructor(scores, choice) {
    this.scores = scores;
    this.#choice = choice;
    this.place = scores.place(choice.score);
    this.measure = scores.measures[this.place];
    /** Whether the score is the share of the way from chance to 1. */
    this.isRelative = choice.relative && this.measure.pattern;
    /** Whether columns of the map are ranks instead of heads. */
    this.isByRank = choice.head_order === "score";
  }

  /** @param {Head} head */
  score(head) { return this.isRelative ? this.scores.above(this.place, head) : this.scores.value(this.place, head); }
  /** @param {Head} head */
  isTagged(head) { return this.scores.isTagged(this.place, head); }
  /** @param {Head} head */
  isLeftOut(head) { return this.#choice.tagged_only && this.measure.pattern && !this.isTagged(head); }

  /** Scores that are numbers, also of heads that are left out. */
  known() { return this.scores.all().map((head) => this.score(head)).filter(Number.isFinite); }

  /** What the ramp of colours goes from and to. @param {number[]} known */
  range(known) {
    const top = Math.max(1e-9, ...known);
    return [this.measure.pattern ? 0 : Math.min(top - 1e-9, ...known), top];
  }

  /** Heads from the highest score to the lowest, without those that are left out. */
  ranked() { return this.scores.all().filter((head) => !this.isLeftOut(head)).sort((a, b) => rank(this.score(b)) - rank(this.score(a))); }

  /** Rows of the map. @returns {number[]} */
  rows() {
    const order = this.scores.layers.map((_, row) => row);
    const best = (row) => Math.max(...this.#ranks(row));
    return this.#choice.layer_order === "score" ? order.sort((a, b) => best(b) - best(a) || a - b) : order;
  }

  /** Heads of one row of the map. @param {number} row @returns {number[]} */
  columns(row) {
    const ranks = this.#ranks(row), order = ranks.map((_, head) => head);
    return this.isByRank ? order.sort((a, b) => ranks[b] - ranks[a] || a - b) : order;
  }

  #ranks(row) { return Array.from({ length: this.scores.heads }, (_, head) => rank(this.score({ row, head }))); }
}
