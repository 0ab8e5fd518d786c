/** One cell of the grid: its text, which may be coming, and what one thinks of it. */
import { element } from "../shared/dom.js";
import { beside, isMove } from "./moving.js";
import { stars } from "./rating.js";
import { visible } from "./visible.js";
import { factsWords, thinkingWords } from "./words.js";

/** @typedef {import("./state.js").State} State */

export class CellBox {
  node = element("td", "cell");
  #said = element("div", "said");
  #thought = element("div", "thinking");
  #head = element("summary", "", "thinking");
  #thinking = element("details", "", this.#head, this.#thought);
  #facts = element("div", "facts");
  #marks;
  #stars;
  #note;
  #state;
  #place;
  /** Steps that are on the page while the cell runs, and how many of them are thinking. */
  #count = 0;
  #thoughts = 0;

  /**
   * @param {State} state
   * @param {number} place
   * @param {(place: number) => void} focus  gives the keyboard to another cell
   */
  constructor(state, place, focus) {
    this.#state = state;
    this.#place = place;
    this.#stars = stars(`rating of cell ${place}`, (value) => state.rate(place, { rating: value === this.#shown.rating ? 0 : value }));
    this.#note = noteField(state, place);
    this.#marks = element("div", "marks", this.#stars.element, this.#note);
    this.#said.dir = this.#thought.dir = "auto";
    this.node.tabIndex = 0;
    this.node.setAttribute("role", "gridcell");
    this.node.append(this.#thinking, this.#said, this.#facts, this.#marks);
    this.node.addEventListener("click", () => state.choose(place));
    this.node.addEventListener("keydown", (event) => this.#pressed(event, focus));
  }

  get #shown() { return this.#state.shown(this.#place); }

  draw() {
    const shown = this.#shown;
    this.node.classList.toggle("running", shown.state === "running");
    this.node.classList.toggle("failed", shown.state === "error");
    this.node.dataset.state = shown.state;
    this.#said.replaceChildren(...visible(shown.answer));
    this.#thought.replaceChildren(...visible(shown.thinking));
    this.#thinking.hidden = !shown.thinking;
    this.#count = this.#thoughts = 0;
    this.#head.textContent = thinkingWords(0);
    if (shown.state === "running") this.take(0, shown.written);
    this.#facts.textContent = factsWords(shown);
    this.#marks.hidden = shown.state !== "done";
    this.#stars.draw(shown.rating);
    if (document.activeElement !== this.#note) this.#note.value = shown.note;
  }

  /**
   * Steps from a place on, of which some may be there; false if steps before them were missed.
   * @param {number} from
   * @param {[string, string][]} written  text and span of each
   */
  take(from, written) {
    if (from > this.#count) return false;
    const fresh = written.slice(this.#count - from), said = this.#said;
    const atEnd = said.scrollTop + said.clientHeight >= said.scrollHeight - 30;
    for (const [text, span] of fresh) (span === "thinking" ? this.#thought : said).append(...visible(text));
    this.#thoughts += fresh.filter(([, span]) => span === "thinking").length;
    this.#head.textContent = thinkingWords(this.#thoughts); // folded, it is seen to go on
    this.#thinking.hidden = !this.#thought.textContent;
    this.#count += fresh.length;
    if (atEnd) said.scrollTop = said.scrollHeight;
    return true;
  }

  /** @param {KeyboardEvent} event @param {(place: number) => void} focus */
  #pressed(event, focus) {
    const state = this.#state, place = this.#place;
    if (isMove(event.key)) {
      const next = beside(event.key, state.told.cells, place);
      if (next >= 0) state.choose(next), focus(next);
    } else if (/^[0-5]$/.test(event.key) && this.#shown.state === "done") state.rate(place, { rating: Number(event.key) });
    else if (event.key === "Enter" && event.target === this.node) state.choose(place);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

/** @param {State} state @param {number} place */
function noteField(state, place) {
  const note = element("input");
  note.dir = "auto";
  note.placeholder = "note";
  note.setAttribute("aria-label", `note on cell ${place}`);
  note.addEventListener("change", () => state.rate(place, { note: note.value }));
  note.addEventListener("keydown", (event) => event.stopPropagation());
  return note;
}
