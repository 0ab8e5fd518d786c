/** The part of the map on screen in blocks, worked out in slices so that nobody waits. */

/** @typedef {import("./weights.js").Pair} Pair */
/** @typedef {{top: number, rows: Float32Array, done: number}} Tops  largest sizes, when so many rows were done */

const CELLS = 512; // blocks along a side, at most

export class Tile {
  /**
   * @param {object} given
   * @param {Pair} given.pair
   * @param {string} given.what  names the pair, and how many first tokens stand apart
   * @param {number[]} given.part  [first row, end row, first column, end column]
   * @param {number} given.first  so many first tokens stand apart
   * @param {number} given.count  tokens of the text
   * @param {Tile|null} before  that was shown last
   */
  constructor({ pair, what, part, first, count }, before) {
    const [r0, r1, c0, c1] = part;
    const size = Math.max(1, Math.ceil(Math.max(r1 - r0, c1 - c0) / CELLS));
    this.name = Tile.nameOf(what, part, count);
    this.what = what;
    this.pair = pair;
    this.r0 = r0;
    this.r1 = r1;
    this.c0 = c0;
    this.c1 = c1;
    this.size = size; // tokens along a side of a block
    this.nr = Math.ceil((r1 - r0) / size); // blocks
    this.nc = Math.ceil((c1 - c0) / size);
    this.first = first;
    this.entire = r1 - r0 === count && c1 - c0 === count;
    /** Strongest and mean value of each block, [row, column]; NaN where there is none. */
    this.values = { max: new Float32Array(this.nr * this.nc), mean: new Float32Array(this.nr * this.nc) };
    this.apart = new Float32Array(this.nr); // mean over a block's rows of what the first tokens get
    this.done = 0; // rows of blocks
    /** @type {Tile|null} What is shown while this one is worked out. */
    this.under = before?.what === what ? (before.done === before.nr ? before : before.under) : null;
    /** @type {OffscreenCanvas|null} */
    this.picture = null;
    /** @type {Record<string, Tops>} What `top` found last. */
    this.tops = {};
    if (before) this.#takeFrom(before);
    if (pair.one.blocks && !pair.other) this.#take(pair.one.blocks);
  }

  static nameOf(what, part, count) { return [what, ...part, count].join(" "); }

  get complete() { return this.done === this.nr; }

  /** The text has grown: what its earlier tokens attend to stays. @param {Tile} before */
  #takeFrom(before) {
    if (!this.entire || !before.entire || before.what !== this.what || before.size !== this.size || before.r1 > this.r1) return;
    this.done = Math.min(before.done, Math.floor(before.r1 / this.size));
    for (const kind of ["max", "mean"]) {
      for (let row = 0; row < this.done; row++) this.values[kind].set(before.values[kind].subarray(row * before.nc, (row + 1) * before.nc), row * this.nc);
    }
    this.apart.set(before.apart.subarray(0, this.done));
  }

  /** The whole map as Python worked it out, if this is the same. @param {import("./weights.js").Blocks} blocks */
  #take(blocks) {
    if (blocks.size !== this.size || blocks.sink !== this.first || !this.entire || this.complete) return;
    let at = 0;
    for (let row = 0; row < this.nr; row++) for (let column = 0; column <= row; column++, at++) {
      this.values.max[row * this.nc + column] = blocks.max[at];
      this.values.mean[row * this.nc + column] = blocks.mean[at];
    }
    for (let row = 0; row < this.nr; row++) this.#workApart(row);
    this.done = this.nr;
  }

  /** Work out more rows, for so many milliseconds. */
  work(budget) {
    const began = performance.now();
    while (this.done < this.nr && performance.now() - began < budget) this.#workRow();
    if (this.complete) this.under = null;
  }

  #workRow() {
    const { pair, r0, r1, c0, c1, size, nc, first, done, values: { max, mean } } = this, counts = new Uint32Array(nc);
    for (let row = r0 + done * size; row < Math.min(r1, pair.rows, r0 + (done + 1) * size); row++) {
      for (let column = Math.max(c0, first); column < Math.min(c1, row + 1); column++) {
        const weight = pair.value(row, column), cell = Math.floor((column - c0) / size), at = done * nc + cell;
        if (!counts[cell] || Math.abs(weight) > Math.abs(max[at])) max[at] = weight;
        mean[at] += weight;
        counts[cell]++;
      }
    }
    for (let cell = 0, at = done * nc; cell < nc; cell++, at++) {
      if (counts[cell]) mean[at] /= counts[cell];
      else max[at] = mean[at] = NaN;
    }
    this.#workApart(done);
    this.done++;
  }

  #workApart(block) {
    const { pair, r0, r1, size, first } = this;
    let sum = 0, count = 0;
    for (let row = r0 + block * size; row < Math.min(r1, pair.rows, r0 + (block + 1) * size); row++, count++) {
      for (let column = 0; column < Math.min(first, row + 1); column++) sum += pair.value(row, column);
    }
    this.apart[block] = count ? sum / count : NaN; // the other trace has no such rows
  }

  /**
   * Largest size of all values, and of each row of blocks.
   * @param {"max"|"mean"} kind
   * @returns {Tops}
   */
  top(kind) {
    if (this.tops[kind]?.done === this.done) return this.tops[kind];
    const rows = new Float32Array(this.nr), values = this.values[kind];
    let top = 0;
    for (let row = 0; row < this.nr; row++) {
      for (let column = 0; column < this.nc; column++) {
        const size = Math.abs(values[row * this.nc + column]);
        if (size > rows[row]) rows[row] = size;
      }
      if (rows[row] > top) top = rows[row];
    }
    return (this.tops[kind] = { rows, top, done: this.done });
  }
}
