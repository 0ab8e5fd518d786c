/**
 * A text that grows token by token. Text that was held back while it came, or that a stop string cut off, may
 * become another token's later: steps that are on the page already are corrected then.
 *
 * @typedef Step  a token as Python tells of it
 * @prop {number} id  negative where a server does not tell it
 * @prop {string} piece
 * @prop {string} text  what it adds to the text; "" of a special token
 * @prop {string} cut  what a stop string cut off
 * @prop {string} span  "thinking" or "answer"
 * @prop {number|null} logprob
 * @prop {number|null} entropy  in bits
 * @prop {boolean} given  chosen by somebody, not drawn
 * @prop {[number, string, number|null, number|null, boolean][]} others  alternatives: token id, piece,
 *   log-probability, the same after the filters, and whether these kept it
 */
import { element, spell } from "./dom.js";

/**
 * Steps from a place on, told apart: those whose text is another one now, by place, and those that are new.
 * Null if steps before them were missed.
 * @template {Pick<Step, "text"|"cut">} Token
 * @param {Token[]} known
 * @param {number} from
 * @param {Token[]} steps
 */
export function sortedSteps(known, from, steps) {
  if (from > known.length) return null;
  const there = known.length - from;
  /** @type {[number, Token][]} */
  const changed = [];
  steps.slice(0, there).forEach((step, n) => {
    const old = known[from + n];
    if (old.text !== step.text || old.cut !== step.cut) changed.push([from + n, step]);
  });
  return { changed, fresh: steps.slice(there) };
}

/** A text on the page: its steps, an element for each, and an element around those of one span. */
export class TokenText {
  /** @type {Step[]} */
  steps = [];
  /** @type {HTMLElement[]} */
  nodes = [];
  /** @type {HTMLElement|null} The span that is being written. */
  #stretch = null;
  #said;
  #scrolled;
  #write;
  #dress;
  #open;
  #grown;

  /**
   * @param {HTMLElement} said  that the text is written into
   * @param {object} [how]
   * @param {HTMLElement} [how.scrolled]  around it: at its end it stays there while the text grows
   * @param {(node: HTMLElement, step: Step) => void} [how.write]  a step's text, also a corrected one
   * @param {(node: HTMLElement, step: Step, place: number) => void} [how.dress]  what else a new token needs
   * @param {(stretch: HTMLElement, span: string) => void} [how.open]  what a span begins with
   * @param {(sorted: {changed: [number, Step][], fresh: Step[]}) => void} [how.grown]  what else is drawn after steps
   */
  constructor(said, { scrolled = said, write = spell, dress = () => {}, open = () => {}, grown = () => {} } = {}) {
    this.#said = said;
    this.#scrolled = scrolled;
    this.#write = write;
    this.#dress = dress;
    this.#open = open;
    this.#grown = grown;
  }

  clear() {
    this.#said.replaceChildren();
    this.steps.length = this.nodes.length = 0;
    this.#stretch = null;
  }

  /**
   * Write steps from a place on; false if steps before them were missed, and nothing is written.
   * @param {number} from
   * @param {Step[]} steps
   */
  take(from, steps) {
    const sorted = sortedSteps(this.steps, from, steps);
    if (!sorted) return false;
    for (const [place, step] of sorted.changed) {
      this.steps[place] = step;
      this.#write(this.nodes[place], step);
    }
    const scrolled = this.#scrolled, atEnd = scrolled.scrollTop + scrolled.clientHeight >= scrolled.scrollHeight - 30;
    for (const step of sorted.fresh) this.#append(step);
    this.#grown(sorted);
    if (atEnd) scrolled.scrollTop = scrolled.scrollHeight;
    return true;
  }

  /** @param {Step} step */
  #append(step) {
    if (this.#stretch?.dataset.span !== step.span) {
      this.#stretch = element("span", `stretch ${step.span}`);
      this.#stretch.dataset.span = step.span;
      this.#open(this.#stretch, step.span);
      this.#said.append(this.#stretch);
    }
    const node = element("span", "token");
    this.#write(node, step);
    this.#dress(node, step, this.steps.length);
    this.steps.push(step);
    this.nodes.push(node);
    this.#stretch.append(node);
  }
}
