/**
 * Attention weights of a head, worked out from its queries and keys:
 * exp(query · key / √head_dim - log of the row's total). A row is a query token, a column a key token.
 */
import { copied } from "../shared/values.js";
import { floats } from "./half_floats.js";

/**
 * A map in blocks of size × size tokens, as Python worked it out.
 * @typedef Blocks
 * @prop {number} size
 * @prop {number} sink         so many first tokens are left out as keys
 * @prop {Float32Array} max    strongest weight of each block, lower triangle row by row
 * @prop {Float32Array} mean   mean weight of each block, likewise
 */

const joined = (old, more) => {
  const all = new Float32Array(old.length + more.length);
  all.set(old);
  all.set(more, old.length);
  return all;
};

/** One head: queries, already divided by √head_dim, keys, and the logarithm of every row's total. */
export class Head {
  /**
   * @param {{half: boolean, size?: number, sink?: number}} content  of a message
   * @param {DataView[]} buffers  query and key [token, head_dim], log totals [token], and blocks if `size`
   */
  constructor(content, buffers) {
    this.query = floats(buffers[0], content.half); // [token, head_dim]
    this.key = floats(buffers[1], content.half); // [token, head_dim]
    this.logs = copied(buffers[2], Float32Array); // [token]
    this.tokens = this.logs.length;
    this.dim = this.tokens ? this.key.length / this.tokens : 0;
    this.divide(this.query);
    /** @type {Blocks|null} */
    this.blocks = null; // the whole map as Python worked it out
    if (content.size) {
      const max = floats(buffers[3], true);
      this.blocks = { size: content.size, sink: content.sink, max, mean: content.size > 1 ? floats(buffers[4], true) : max };
    }
  }

  get bytes() { return 4 * (this.query.length + this.key.length + this.logs.length + (this.blocks ? (this.blocks.size > 1 ? 2 : 1) * this.blocks.max.length : 0)); }

  /** @param {Float32Array} query */
  divide(query) { const root = Math.sqrt(this.dim); for (let n = 0; n < query.length; n++) query[n] /= root; }

  /** Add tokens; `buffers` as of the constructor, of the new tokens only. */
  append({ half }, buffers) {
    const query = floats(buffers[0], half);
    this.divide(query);
    this.query = joined(this.query, query);
    this.key = joined(this.key, floats(buffers[1], half));
    this.logs = joined(this.logs, copied(buffers[2], Float32Array));
    this.tokens = this.logs.length;
    this.blocks = null;
  }

  /** How much token `row` attends to token `column`; 0 for a later one. */
  weight(row, column) {
    if (column > row) return 0;
    const { query, key, dim } = this;
    let q = row * dim, k = column * dim, a = 0, b = 0, c = 0, d = 0; // four sums: the processor adds them side by side
    const end = q + dim - 3;
    for (; q < end; q += 4, k += 4) {
      a += query[q] * key[k];
      b += query[q + 1] * key[k + 1];
      c += query[q + 2] * key[k + 2];
      d += query[q + 3] * key[k + 3];
    }
    for (; q < end + 3; q++, k++) a += query[q] * key[k];
    return Math.exp(a + b + c + d - this.logs[row]);
  }
}

/** What is shown: one head, or one minus another, as far as both have tokens. */
export class Pair {
  /**
   * @param {Head} one
   * @param {Head|null} other  what is subtracted
   */
  constructor(one, other) {
    this.one = one;
    this.other = other;
    this.rows = other ? Math.min(one.tokens, other.tokens) : one.tokens; // query tokens that have a value
  }

  /** The weight or the difference; NaN where the other head has no such row. */
  value(row, column) {
    if (row >= this.rows) return NaN;
    return this.other ? this.one.weight(row, column) - this.other.weight(row, column) : this.one.weight(row, column);
  }

  /** What token `row` attends to, [count], 0 for later tokens. */
  rowOf(row, count) {
    const result = new Float32Array(count);
    for (let column = 0; column <= row; column++) result[column] = this.value(row, column);
    return result;
  }

  /** What attends to token `column`, [count], 0 for earlier tokens. */
  columnOf(column, count) {
    const result = new Float32Array(count);
    for (let row = column; row < count; row++) result[row] = this.value(row, column);
    return result;
  }
}
