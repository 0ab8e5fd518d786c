/** How often every expert is used by the tokens that pass the filters, and what chance gives. */
import { beyondOthers, uniformBand } from "./chance.js";
import { matcher } from "./search.js";
import { SPANS } from "./tokens.js";

/** @typedef {{domain: string, span: string, phase: string, search: string}} Filters */

/**
 * [token] 1 where a token passes the filters.
 *
 * @param {import("./tokens.js").Tokens} data
 * @param {Filters} filters
 */
export function passing(data, { domain, span, phase, search }) {
  const result = new Uint8Array(data.count);
  const found = search ? matcher(search) : null;
  const kind = SPANS.indexOf(span), decode = ["prefill", "decode"].indexOf(phase);
  const wanted = data.documents.map((part) => domain === "all" || part.label === domain);
  for (let token = 0; token < data.count; token++)
    result[token] = wanted[data.owner[token]] && (kind < 0 || data.kind[token] === kind) && (decode < 0 || data.decode[token] === decode) && (!found || found(data.pieces[token])) ? 1 : 0;
  return result;
}

/** [layer, expert] uses by the tokens of a mask, or by all. */
function countAll(data, mask) {
  const result = new Uint32Array(data.layers * data.experts), { chosen, slots, experts } = data, width = data.layers * slots;
  for (let token = 0; token < data.count; token++) {
    if (mask && !mask[token]) continue;
    let place = token * width;
    for (let row = 0; row < result.length; row += experts)
      for (let slot = 0; slot < slots; slot++) result[row + chosen[place++]]++;
  }
  return result;
}

/** [expert] uses of every expert of one layer by the tokens of a mask. */
function countLayer(data, layer, mask) {
  const result = new Uint32Array(data.experts);
  for (let token = 0; token < data.count; token++)
    if (mask[token]) for (let slot = 0; slot < data.slots; slot++) result[data.at(token, layer, slot)]++;
  return result;
}

export class Counts {
  /**
   * @param {import("./tokens.js").Tokens} data
   * @param {Filters} filters
   * @param {boolean} againstOthers  compare with the other tokens, where there are any
   * @param {Uint32Array} [totals]   [layer, expert] uses by all tokens, if they are known already
   */
  constructor(data, filters, againstOthers, totals) {
    this.data = data;
    this.filters = filters;
    /** By domain, which tokens pass the other filters; made when it is asked for. @type {Uint8Array[]} */
    this.masks = null;
    /** [token] 1 where a token passes the filters. */
    this.keep = passing(data, filters);
    /** How many do. */
    this.kept = this.keep.reduce((sum, value) => sum + value, 0);
    this.counts = countAll(data, this.keep);
    this.totals = totals ?? countAll(data, null);
    this.others = againstOthers && this.kept < data.count;
    /** Of a token's choices, by chance, an expert's. */
    this.chance = data.slots / data.experts;
    /** Lowest and highest count that uniform routing gives. */
    this.band = uniformBand(this.kept, this.chance, this.counts.length);
    this.beyond = new Uint8Array(this.counts.length);
    const known = new Map();
    for (let n = 0; n < this.counts.length; n++) {
      if (this.others) {
        const key = this.counts[n] * (data.count + 1) + this.totals[n];
        if (!known.has(key)) known.set(key, beyondOthers(this.counts[n], this.totals[n], this.kept, data.count, this.counts.length));
        this.beyond[n] = known.get(key) ? 1 : 0;
      } else this.beyond[n] = this.counts[n] < this.band[0] || this.counts[n] > this.band[1] ? 1 : 0;
    }
  }

  count(layer, expert) { return this.counts[layer * this.data.experts + expert]; }
  /** Of the kept tokens, those that use an expert. */
  share(layer, expert) { return this.count(layer, expert) / Math.max(1, this.kept); }
  shareOfOthers(layer, expert) { return (this.totals[layer * this.data.experts + expert] - this.count(layer, expert)) / (this.data.count - this.kept); }
  isBeyond(layer, expert) { return this.beyond[layer * this.data.experts + expert] === 1; }
  /** What a share is compared with. */
  base(layer, expert) { return this.others ? this.shareOfOthers(layer, expert) : this.chance; }

  /**
   * Every domain's uses of a layer's experts, whatever the domain filter says, and what uniform routing gives
   * for so many cells together.
   */
  byDomain(layer, cells) {
    const { data } = this;
    this.masks ??= data.labels.map((domain) => passing(data, { ...this.filters, domain }));
    return data.labels.map((label, number) => {
      const mask = this.masks[number], tokens = mask.reduce((sum, value) => sum + value, 0);
      const [low, high] = uniformBand(tokens, this.chance, data.labels.length * cells);
      return { label, tokens, count: countLayer(data, layer, mask), low, high };
    });
  }
}
