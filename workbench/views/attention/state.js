/**
 * What all panels of the view look at, and the few things that several of them do: the text, the heads that are
 * here, what the pointer is on, the colours. Traits are what is kept; the rest is of this page alone.
 *
 * @typedef {import("./view.js").Model} Model
 * @typedef {{ get<Name extends keyof Model>(name: Name): Model[Name], holds?: (question: object) => boolean }} Traits
 *
 * @typedef Text  as Python told it
 * @prop {string} model  name
 * @prop {string} other  name of the other trace's model, "" without one
 * @prop {number} shared  first tokens that both have
 * @prop {string[]} pieces
 * @prop {{kind: string, start: number, end: number}[]} spans
 * @prop {number[]} turns  tokens that open a turn
 * @prop {number[]} layers  that were recorded
 * @prop {number} heads
 * @prop {number} key_heads
 * @prop {string} error
 * @prop {number} [count]  of tokens
 * @prop {string[]} [kinds]  of stretch, of every token
 *
 * @typedef Hover  under the pointer; a weight has row and column, those of the first tokens row and apart
 * @prop {number} [row]
 * @prop {number} [column]
 * @prop {boolean} [apart]
 * @prop {number} [token]
 * @prop {[number, number]} [grid]  layer and head of a small map
 *
 * @typedef {{row: Float32Array, column: Float32Array}} Profile  what a token attends to, and what attends to it
 */
import { element } from "../shared/dom.js";
import { limit } from "../shared/values.js";
import { HeadStore, headName } from "./head_store.js";
import { partShown } from "./map_part.js";
import { Pair } from "./weights.js";

export class State {
  /** @type {{of: unknown[], found: Profile|null}} The last profile, and what it is of. */
  #profile = { of: [], found: null };

  /**
   * @param {Traits} model
   * @param {{send: (message: object) => boolean, set: (values: Partial<Model>) => boolean}} page
   * @param {HTMLElement} root  which also tells, in its data, how far the page is
   * @param {(...what: string[]) => void} schedule  has something drawn anew in the next frame: "all", "theme",
   *   "select", "scale", "map", "grid", "hover" or "scroll"
   */
  constructor(model, page, root, schedule) {
    this.model = model;
    this.page = page;
    this.root = root;
    this.schedule = schedule;
    /** @type {Text|null} */
    this.text = null;
    this.store = new HeadStore();
    /** @type {Hover|null} */
    this.hover = null;
    /** @type {import("./colours.js").Theme|null} */
    this.theme = null;
    /** Pixels of the columns of the small maps and of the large one, measured when the width changes. */
    this.room = { left: 0, right: 0 };
    /** @type {{from: [number, number], to: [number, number]|null}|null} Corners of a rectangle that is drawn now. */
    this.drag = null;
    /** What a screen reader is told. */
    this.spoken = element("div", "spoken");
    this.spoken.setAttribute("aria-live", "polite");
  }

  // -- what is selected

  selected() { return limit(this.model.get("token"), -1, this.text.count - 1); }
  /** The token under the pointer, -1 for none. */
  pointed() { return this.hover?.token ?? this.hover?.row ?? -1; }
  focus() { return this.pointed() >= 0 ? this.pointed() : this.selected(); }
  comparing() { return this.model.get("compare") !== "none"; }
  /** So many first tokens stand apart. */
  sink() { return Math.min(this.model.get("sink"), this.text.count); }
  part() { return partShown(this.model.get("zoom"), this.text.count); }
  headNumbers() { return Array.from({ length: this.text.heads }, (_, n) => n); }
  /** Query heads that share a key–value head. */
  groupSize() { return this.text.heads / this.text.key_heads; }

  // -- heads

  /** The name of the head that is shown. */
  mine() { return headName(0, this.model.get("layer"), this.model.get("head")); }
  /** The name of the one that is subtracted. */
  theirs() { return this.model.get("compare") === "head" ? headName(0, this.model.get("other_layer"), this.model.get("other_head")) : headName(1, this.model.get("layer"), this.model.get("head")); }
  /** The names of all that is shown. */
  wanted() { return this.comparing() ? [this.mine(), this.theirs()] : [this.mine()]; }
  /** Whether a head of this trace can be looked at: everywhere all can, but in a saved page. */
  canOpen(layer, head) {
    const { held } = this.store;
    return !held || (held.has(headName(0, layer, head)) && (this.model.get("compare") !== "trace" || held.has(headName(1, layer, head))));
  }
  /** Whether a head can be subtracted. */
  canSubtract(layer, head) { return !this.store.held || this.store.held.has(headName(0, layer, head)); }
  /** A head, if it is here with all tokens. */
  found(name) {
    const head = this.store.heads.get(name);
    return head && head.tokens >= (name[0] === "1" ? this.text.shared : this.text.count) ? head : null;
  }
  /** The head that is shown and the one that is subtracted; null until they are here. */
  pair() {
    const one = this.found(this.mine()), other = this.comparing() ? this.found(this.theirs()) : null;
    return one && (!this.comparing() || other) ? new Pair(one, other) : null;
  }
  /** Keep a head that came. */
  keep(name, head) {
    this.store.keep(name, head, this.wanted());
    this.root.dataset.heads = String(this.store.heads.size);
    this.root.dataset.bytes = String(this.store.bytes);
  }
  /** Whether the token in focus is one that the other trace has not. */
  withoutDifference() { return this.focus() >= (this.pair()?.rows ?? Infinity); }
  /**
   * What the token in focus attends to and what attends to it but itself; null while nothing can be shown.
   * @returns {Profile|null}
   */
  profile() {
    const pair = this.pair(), token = this.focus(), { count } = this.text;
    if (!pair || token < 0 || token >= pair.rows) return null;
    const of = [pair.one, pair.other, count, token];
    if (of.every((part, n) => part === this.#profile.of[n])) return this.#profile.found;
    const found = { row: pair.rowOf(token, count), column: pair.columnOf(token, count) };
    found.column[token] = 0; // its own weight is in its row
    this.#profile = { of, found };
    return found;
  }

  // -- what is done

  /** Select a token, and set other traits with it. @param {Partial<Model>} more */
  choose(token, more = {}) {
    this.page.set({ ...more, token: limit(token, -1, this.text.count - 1) });
    this.say();
  }
  /** Keep a token's row below the map, or let it go. */
  pin(token) {
    if (token < 0) return;
    const list = this.model.get("pins");
    this.page.set({ pins: list.includes(token) ? list.filter((other) => other !== token) : [...list, token] });
  }
  /** @param {Hover|null} next */
  point(next) {
    this.hover = next;
    this.schedule("hover");
  }
  /** The pointer has left a panel. */
  leave() { if (this.hover && !this.drag) this.point(null); }
  /** Tell a screen reader what is selected. */
  say() {
    const { model, text } = this;
    if (!text?.count) return;
    const token = this.selected();
    this.spoken.textContent = `layer ${model.get("layer")}, head ${model.get("head")}${token >= 0 ? `, token ${token} ${text.pieces[token]}` : ""}`;
  }
}
