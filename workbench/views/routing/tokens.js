/** Everything that the page was told of the tokens. */
import { css, onTop } from "../shared/colours.js";
import { asFloat32 } from "../shared/values.js";

export const SPANS = ["prompt", "thinking", "answer"];

/** @typedef {{label: string, model: string, pieces: string[], spans: {kind: string, start: number, end: number}[], prompt: number}} Document */

/** The joined row of tokens: everything that the page was told, growing with a live generation. */
export class Tokens {
  /** @param {any} content @param {DataView[]} buffers  see the messages in view.js */
  constructor(content, buffers) {
    const { layers, slots, experts, groups, grouped, obeyed_groups, block, documents, missing, error } = content;
    /** @type {number} */ this.layers = layers;
    /** @type {number} */ this.slots = slots;
    /** @type {number} */ this.experts = experts;
    /** @type {number} */ this.groups = groups;
    /** @type {number} experts of a group */ this.size = experts / groups;
    /** @type {boolean} */ this.grouped = grouped;
    /** @type {number} */ this.obeyed_groups = obeyed_groups;
    /** @type {number} tokens of a block of probabilities */ this.block = block;
    /** @type {Document[]} */ this.documents = documents;
    /** @type {string[]} arrays that the trace has not */ this.missing = missing;
    /** @type {string} */ this.error = error;
    /** @type {string[]} */ this.pieces = [];
    /** [token] place in SPANS @type {Uint8Array} */ this.kind = null;
    this.count = 0;
    /** @type {number[]} first token of each document */
    this.starts = [];
    this.palette = Array.from({ length: this.experts }, (_, e) => [0, 1, 2].map((c) => buffers[2].getUint8(3 * e + c)));
    this.colours = this.palette.map(css);
    this.inks = this.palette.map(onTop);
    this.scales = asFloat32(buffers[3]);
    this.room = 0;
    const bits = asFloat32(buffers[1]);
    for (const [number, part] of this.documents.entries()) {
      const kinds = new Array(part.pieces.length).fill("prompt");
      for (const span of part.spans) kinds.fill(span.kind, span.start, span.end);
      this.starts.push(this.pieces.length);
      this.describe(part.pieces, kinds, number, part.prompt);
    }
    this.bits.set(bits);
    this.unpack(buffers[0], 0, this.count);
    this.labels = [...new Set(this.documents.map((part) => part.label))];
  }

  /** Make room for new tokens and keep what is known of each. */
  describe(pieces, kinds, number, prompt) {
    const start = this.count, end = start + pieces.length;
    if (end > this.room || !this.chosen) {
      this.room = Math.max(end, 2 * this.room);
      const grow = (old, Kind, width) => { const fresh = new Kind(this.room * width); if (old) fresh.set(old); return fresh; };
      this.chosen = grow(this.chosen, Uint16Array, this.layers * this.slots);
      this.bits = grow(this.bits, Float32Array, 1);
      this.owner = grow(this.owner, Uint16Array, 1);
      this.kind = grow(this.kind, Uint8Array, 1);
      this.decode = grow(this.decode, Uint8Array, 1);
    }
    for (let place = 0; place < pieces.length; place++) {
      this.pieces.push(pieces[place]);
      this.owner[start + place] = number;
      this.kind[start + place] = Math.max(0, SPANS.indexOf(kinds[place]));
      this.decode[start + place] = start + place - this.starts[number] >= prompt ? 1 : 0;
    }
    this.count = end;
  }

  unpack(view, start, end) {
    const width = this.layers * this.slots, total = (end - start) * width, offset = start * width;
    if (this.grouped && this.size <= 16) {
      const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      for (let n = 0; n < total; n++) this.chosen[offset + n] = (n % this.slots) * this.size + ((bytes[n >> 1] >> (4 * (n & 1))) & 15);
    } else for (let n = 0; n < total; n++) this.chosen[offset + n] = view.getUint16(2 * n, true);
  }

  append({ pieces, span, missing }, buffers) {
    const start = this.count, number = this.documents.length - 1;
    this.missing = missing;
    this.describe(pieces, new Array(pieces.length).fill(span), number, span === "prompt" ? Infinity : 0);
    this.bits.set(asFloat32(buffers[1]), start);
    this.unpack(buffers[0], start, this.count);
  }

  at(token, layer, slot) { return this.chosen[(token * this.layers + layer) * this.slots + slot]; }
  group(expert) { return Math.floor(expert / this.size); }
  within(token) { return token - this.starts[this.owner[token]]; }
  scale(token, layer, expert) { return this.scales[(this.owner[token] * this.layers + layer) * this.experts + expert]; }
  label(token) { return this.documents[this.owner[token]].label; }
  /** Slot in which a token uses an expert, -1 if it does not. */
  slot(token, layer, expert) {
    if (this.grouped) return this.at(token, layer, this.group(expert)) === expert ? this.group(expert) : -1;
    for (let slot = 0; slot < this.slots; slot++) if (this.at(token, layer, slot) === expert) return slot;
    return -1;
  }
}
