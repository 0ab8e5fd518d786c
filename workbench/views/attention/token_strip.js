/** A text as a row of tokens that can be shaded, marked and pointed at. Only those on screen need a shade. */
import { element } from "../shared/dom.js";

/** @typedef {HTMLSpanElement & {number: number, shade: string}} TokenNode */

const LINE = 26; // pixels of a line: one that is half above the edge is on screen too
const FIRST_TOKENS = 64; // among which some may be framed

export class TokenStrip {
  #tops = null; // upper edges of the tokens, measured when they are needed
  #height = 0; // of what is seen of the text
  #scrolled = 0; // pixels
  #hover = -1;
  #selected = -1;
  /** @type {number[]} */
  #pinned = [];

  /**
   * @param {string} label  for a screen reader
   * @param {object} heard
   * @param {(token: number) => void} heard.onMove  the pointer is on a token, or on none, -1
   * @param {() => void} heard.onLeave
   * @param {(token: number, event: MouseEvent) => void} heard.onClick
   * @param {() => void} heard.onScroll
   */
  constructor(label, { onMove, onLeave, onClick, onScroll }) {
    /** @type {HTMLDivElement} */
    this.element = element("div", "strip");
    /** @type {TokenNode[]} */
    this.nodes = [];
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "listbox");
    this.element.setAttribute("aria-label", label);
    const tokenOf = (event) => event.target.closest?.(".token")?.number ?? -1;
    this.element.addEventListener("pointermove", (event) => onMove(tokenOf(event)));
    this.element.addEventListener("pointerleave", onLeave);
    this.element.addEventListener("click", (event) => { const token = tokenOf(event); if (token >= 0) onClick(token, event); });
    this.element.addEventListener("scroll", () => {
      this.#scrolled = this.element.scrollTop;
      onScroll();
    });
  }

  /**
   * Show tokens from `from` on, in place of those that were there from it on.
   * @param {string[]} pieces  of the whole text
   * @param {string[]} kinds  of stretch, which are class names
   */
  show(pieces, kinds, from = 0) {
    if (!from) {
      this.element.replaceChildren();
      this.nodes = [];
      this.#hover = this.#selected = -1;
      this.#pinned = [];
    }
    const parts = [];
    for (let token = from; token < pieces.length; token++) {
      const node = nodeOf(token, pieces[token], kinds[token]);
      this.nodes.push(node);
      parts.push(node);
      if (pieces[token] === "<0x0A>") parts.push(element("br"));
    }
    this.element.append(...parts);
    this.resized();
  }

  /** Tokens may have moved. */
  resized() {
    this.#tops = null;
    this.#height = 0;
  }

  /** @returns {[number, number]}  first and end token that may be on screen */
  onScreen() {
    this.#tops ??= Float32Array.from(this.nodes, (node) => node.offsetTop);
    this.#height ||= this.element.clientHeight;
    return [firstNotBelow(this.#tops, this.#scrolled - LINE), firstNotBelow(this.#tops, this.#scrolled + this.#height)];
  }

  /** @param {string} shade  as CSS, "" for none */
  shade(token, shade) {
    const node = this.nodes[token];
    if (node.shade !== shade) node.style.cssText = node.shade = shade;
  }

  /**
   * @param {object} marks
   * @param {number} marks.hover  token under the pointer, -1 for none
   * @param {number} marks.selected  -1 for none
   * @param {number[]} marks.pinned
   * @param {number} marks.first  so many first tokens are framed
   * @param {boolean} marks.follow  scroll to a token that was selected elsewhere
   */
  mark({ hover, selected, pinned, first, follow }) {
    const { nodes } = this;
    if (this.#hover !== hover) nodes[this.#hover]?.classList.remove("hover");
    nodes[hover]?.classList.add("hover");
    this.#hover = hover;
    if (this.#selected !== selected) nodes[this.#selected]?.setAttribute("aria-selected", "false");
    nodes[selected]?.setAttribute("aria-selected", "true");
    for (const token of this.#pinned) nodes[token]?.classList.toggle("pinned", pinned.includes(token));
    for (const token of pinned) nodes[token]?.classList.add("pinned");
    this.#pinned = pinned;
    if (this.#selected !== selected && nodes[selected] && follow) this.#scrollTo(nodes[selected]);
    this.#selected = selected;
    for (let token = 0; token < Math.min(nodes.length, FIRST_TOKENS); token++) nodes[token].classList.toggle("first", token < first);
  }

  /** @param {TokenNode} node */
  #scrollTo(node) {
    const strip = this.element, line = node.offsetTop;
    if (line < strip.scrollTop || line > strip.scrollTop + strip.clientHeight - 24) strip.scrollTop = line - strip.clientHeight / 3;
  }
}

/** @returns {TokenNode} */
function nodeOf(token, piece, kind) {
  const node = element("span", `token ${kind}`, piece);
  if (/^(<.+>|\[unused\d+\])$/.test(piece)) node.classList.add("special");
  node.setAttribute("role", "option");
  node.shade = "";
  node.number = token;
  return node;
}

/**
 * Where in a list that grows the first number is that is not below `least`.
 * @param {ArrayLike<number>} numbers
 */
export function firstNotBelow(numbers, least) {
  let from = 0, end = numbers.length;
  while (from < end) {
    const middle = (from + end) >> 1;
    if (numbers[middle] < least) from = middle + 1;
    else end = middle;
  }
  return from;
}
