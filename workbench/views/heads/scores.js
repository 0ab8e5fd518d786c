/** Everything that the page was told of the heads. Nothing here draws. */
import { asFloat32, copied } from "../shared/values.js";

/**
 * @typedef {{row: number, head: number}} Head  row: the place of its layer among those that were recorded
 *
 * @typedef Measure
 * @prop {string} name
 * @prop {string} words    what it measures
 * @prop {boolean} pattern  whether it is the share of attention on tokens that a pattern names
 * @prop {string} [chance]   what chance means; this and the following of a pattern
 * @prop {number|null} [threshold]  share of the way from chance to 1 from which a head is tagged
 * @prop {boolean} [shuffled]  whether a tagged head is also above every shuffled text
 * @prop {number} [queries]  query tokens of which it is the mean
 * @prop {number} [needed]   query tokens without which no head is tagged
 */

/** How a score is called on the page. @param {string} name */
export const plain = (name) => name.replaceAll("_", " ");

export class Scores {
  #values;
  #chances;
  #tags;

  /** @param {any} content @param {DataView[]} buffers  see the message in view.js */
  constructor({ model, tokens, texts, layers, heads, kv_heads, measures }, buffers) {
    /** @type {string} */ this.model = model;
    /** @type {number} */ this.tokens = tokens;
    /** @type {number} */ this.texts = texts;
    /** Numbers of those that were recorded. @type {number[]} */ this.layers = layers;
    /** @type {number} */ this.heads = heads;
    /** @type {number} */ this.kv_heads = kv_heads;
    /** Patterns come first. @type {Measure[]} */ this.measures = measures;
    [this.#values, this.#chances] = [asFloat32(buffers[0]), asFloat32(buffers[1])];
    this.#tags = copied(buffers[2], Uint8Array);
  }

  /** Heads that share a key–value head. */
  get group() { return this.heads / this.kv_heads; }

  /** Layer by layer. @returns {Head[]} */
  all() { return this.layers.flatMap((_, row) => Array.from({ length: this.heads }, (_, head) => ({ row, head }))); }

  /** @param {string} name @returns {number} place among the measures */
  place(name) { return this.measures.findIndex((measure) => measure.name === name); }

  #at(measure, { row, head }) { return (measure * this.layers.length + row) * this.heads + head; }
  /** NaN where there is nothing to score. @param {number} measure @param {Head} head */
  value(measure, head) { return this.#values[this.#at(measure, head)]; }
  /** NaN of what is no pattern. @param {number} measure @param {Head} head */
  chance(measure, head) { return this.measures[measure].pattern ? this.#chances[this.#at(measure, head)] : NaN; }
  /** The share of the way from chance to 1. @param {number} measure @param {Head} head */
  above(measure, head) { return (this.value(measure, head) - this.chance(measure, head)) / (1 - this.chance(measure, head)); }
  /** @param {number} measure @param {Head} head */
  isTagged(measure, head) { return this.measures[measure].pattern && this.#tags[this.#at(measure, head)] === 1; }
  /** Names of the patterns that a head is tagged with. @param {Head} head */
  tags(head) { return this.measures.filter((_, measure) => this.isTagged(measure, head)).map(({ name }) => plain(name)).join(", "); }
}
