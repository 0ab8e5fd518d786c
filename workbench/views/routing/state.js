/** What the panels of the routing view share. */
import { BLUES, between, css, fromHex, luminance, onTop, pixel } from "../shared/colours.js";
import { element } from "../shared/dom.js";
import { limit } from "../shared/values.js";
import { choiceGrid, tokensShown } from "./choice_grid.js";

export const WIDEST = 32; // pixels of a token on the map

/**
 * Colours: `mark` of what is kept, `rgb` of the paper, 256 steps of the ramp as `pixels` of an ImageData,
 * and the `inks` that can be read on each.
 *
 * @typedef {{ink: string, paper: string, mark: string, rgb: number[], ramp: (share: number) => number[], pixels: number[], inks: string[]}} Theme
 */

/** @param {HTMLElement} root @returns {Theme} */
function themeOf(root) {
  const probe = getComputedStyle(root);
  const numbers = (text) => (text.match(/[\d.]+/g) || [0, 0, 0]).slice(0, 3).map(Number);
  const ink = numbers(probe.color), paper = numbers(probe.backgroundColor);
  const stops = BLUES[luminance(paper) < 0.5 ? "dark" : "light"].map(fromHex);
  const ramp = (share) => between(stops, share);
  const mark = element("span");
  mark.style.color = "var(--mark)";
  root.append(mark);
  const brand = getComputedStyle(mark).color;
  mark.remove();
  const steps = Array.from({ length: 256 }, (_, n) => ramp(n / 255));
  return { ink: css(ink), paper: css(paper), rgb: paper, ramp, mark: brand, pixels: steps.map(pixel), inks: steps.map(onTop) };
}

/**
 * The tokens, what is selected and pointed at, which tokens are on screen, and when something is drawn anew.
 */
export class State {
  /**
   * @param {{get: (name: string) => any}} model   the traits, see view.js
   * @param {ReturnType<typeof import("../shared/talk.js").talk>} page  sets traits and asks Python
   * @param {HTMLElement} root
   * @param {import("./details.js").Details} details  what comes only when it is asked for
   */
  constructor(model, page, root, details) {
    this.model = model;
    this.page = page;
    this.root = root;
    this.details = details;
    /** Null before the first message. @type {import("./tokens.js").Tokens} */
    this.data = null;
    /** @type {import("./counts.js").Counts} */
    this.counts = null;
    /** Under the pointer. @type {{token?: number, layer?: number, expert?: number} | null} */
    this.hover = null;
    /** @type {Theme} */
    this.theme = null;
    this.from = 0; // first token of the window
    this.cell = 0; // pixels of a token; 0: not chosen yet
    /** Of the map. */
    this.place = { width: 900, left: 66, row: 4, gap: 2 };
    /** Where the keyboard's focus goes when what had it is gone. @type {HTMLElement} */
    this.choices = null;
    this.preferred = []; // experts of the selected layer
    this.busy = false; // this frame recounts: what stands in for a selection is drawn in the next
    /** Draw something anew in the next frame. @type {(...what: string[]) => void} */
    this.schedule = () => {};
    this.widths = new Map(); // of what the canvases fill, as it was laid out last
  }

  get(name) { return this.model.get(name); }

  /** The selected token on the joined axis, -1 for none. */
  pinned() {
    const token = this.get("token"), part = this.data.documents[this.get("document")];
    if (token < 0 || !part) return -1;
    const place = this.data.starts[this.get("document")] + token;
    return place < this.data.count ? place : -1;
  }

  /** What is pointed at, or else selected. */
  current() {
    const { hover } = this;
    return { token: hover?.token ?? this.pinned(), layer: hover?.layer ?? this.get("layer"), expert: hover?.expert ?? this.get("expert") };
  }

  /** @param {{token?: number, layer?: number, expert?: number}} selected */
  choose({ token, layer, expert }) {
    this.page.set({
      ...(token !== undefined && { document: token < 0 ? this.get("document") : this.data.owner[token], token: token < 0 ? -1 : this.data.within(token) }),
      ...(layer !== undefined && { layer }),
      ...(expert !== undefined && { expert }),
    });
  }

  point(next) {
    this.hover = next;
    this.schedule("hover");
  }

  readTheme() { this.theme = themeOf(this.root); }

  widthOf(node) { return this.widths.get(node) || Math.floor(node.clientWidth); }

  /** How many tokens are on screen. */
  shown() { return tokensShown(this.place, this.cell, this.data.count); }

  /** Keep the window of tokens within the text. */
  keepInside(token) { this.from = limit(token, 0, Math.max(0, this.data.count - this.shown())); }

  /** @param {number} width  of the map */
  measure(width) {
    this.place = choiceGrid(width, this.data);
    if (this.cell === 0) this.cell = limit(Math.floor((width - this.place.left) / this.data.count), 3, WIDEST);
    this.keepInside(this.from);
  }
}
