/** One column: its settings, its text, and how that stands to the text of reference. */
import { button, element, named, spell } from "../shared/dom.js";
import { TokenText } from "../shared/tokens.js";
import { tokenTitle } from "../shared/values.js";
import { goesOn } from "./differences.js";
import { nameField, settingFields } from "./fields.js";
import { statusWords } from "./words.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Step} Step */

export class Column {
  label = "";
  place = 0;
  /** Where its text parts from that of reference, -1 for nowhere. */
  #first = -1;
  #status = element("div", "soft small");
  #fields;
  #text;
  #base;
  #drop;
  /** All that is closed while texts are generated. */
  #inputs;

  /** @param {State} state */
  constructor(state) {
    const name = nameField(state, this), { first, rest } = settingFields(state, this), said = element("div", "said");
    this.#fields = [name, ...first, ...rest];
    this.#text = new TokenText(said, { write: writeToken });
    this.#base = button("compare with", "", () => state.set({ reference: this.place }), "small");
    this.#drop = button("×", "", () => state.remove(this.place), "small");
    const inside = (fields) => element("div", "fields", ...fields.map((field) => field.element));
    const more = element("details", "", element("summary", "soft small", "more settings"), inside(rest));
    this.box = element("div", "column", element("div", "head", name.element, this.#base, this.#drop), inside(first), more, said, this.#status);
    this.#inputs = [name.element, ...this.box.querySelectorAll(".fields input, .fields select")];
  }

  get steps() { return this.#text.steps; }

  /** @param {import("./state.js").Settings} settings @param {number} place */
  show(settings, place) {
    Object.assign(this, { label: settings.label, place });
    for (const field of this.#fields) field.draw(settings);
    named(this.#base, `compare the others with ${settings.label}`);
    named(this.#drop, `remove ${settings.label}`);
  }

  /** Steps from a place on; false if steps before them were missed. @param {number} from @param {Step[]} steps */
  take(from, steps) { return this.#text.take(from, steps); }

  /** Bring the text to these steps; what stands there already stays. @param {Step[]} steps */
  write(steps) {
    if (!goesOn(this.steps, steps)) this.#text.clear();
    this.take(0, steps);
  }

  /** @param {boolean} running @param {boolean} alone  the last column cannot be removed */
  close(running, alone) {
    for (const input of this.#inputs) input.disabled = running;
    this.#drop.disabled = running || alone;
  }

  /**
   * @param {object} compared
   * @param {boolean} compared.isBase  whether it is the column of reference
   * @param {number} compared.first
   * @param {number[]} compared.others  places of tokens that are not in the text of reference
   */
  mark({ isBase, first, others }) {
    const { nodes } = this.#text, places = new Set(others);
    this.box.classList.toggle("base", isBase);
    this.#base.disabled = isBase;
    if (this.#first !== first) nodes[this.#first]?.classList.remove("parts");
    this.#first = first;
    nodes[first]?.classList.add("parts");
    nodes.forEach((node, place) => node.classList.toggle("other", places.has(place)));
  }

  /** @param {{reason?: string, compared: string, changed: boolean}} now @param {boolean} running */
  tell(now, running) { this.#status.textContent = statusWords({ ...now, count: this.steps.length }, running); }
}

/** @param {HTMLElement} node @param {Step} step */
function writeToken(node, step) {
  spell(node, step);
  node.title = tokenTitle(step);
}
