/** Heads whose queries and keys are here, and, in a saved page, which ones it holds at all. */

/** @typedef {import("./weights.js").Head} Head */

const KEPT = 48e6; // bytes of heads in memory

/** What a head is called here; trace 1 is the other one. */
export const headName = (trace, layer, head) => `${trace}/${layer}/${head}`;
/** @returns {number[]}  [trace, layer, head] */
export const headOfName = (name) => name.split("/").map(Number);

export class HeadStore {
  constructor() {
    /** @type {Map<string, Head>} By name, the last used at the end. */
    this.heads = new Map();
    /** @type {Set<string>} Asked for, and not in this saved page. */
    this.absent = new Set();
    /** @type {Set<string>|null} In a saved page: all that it holds. */
    this.held = null;
  }

  clear() {
    this.heads.clear();
    this.absent.clear();
  }

  get bytes() {
    let bytes = 0;
    for (const head of this.heads.values()) bytes += head.bytes;
    return bytes;
  }

  /**
   * Keep a head, and let others go that were not used for the longest time if they become too large.
   * @param {string} name
   * @param {Head} head
   * @param {string[]} shown  names of those that are looked at now
   */
  keep(name, head, shown) {
    this.heads.delete(name);
    this.heads.set(name, head);
    let { bytes } = this;
    for (const [old, kept] of this.heads) {
      if (bytes <= KEPT) break;
      if (shown.includes(old)) continue;
      this.heads.delete(old);
      bytes -= kept.bytes;
    }
  }
}
