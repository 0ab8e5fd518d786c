/** Which score is shown, and how. */
import { element } from "../shared/dom.js";
import { plain } from "./scores.js";

/** @typedef {import("./state.js").State} State */

/** @param {State} state @param {HTMLElement} more  stands after them */
export function controls(state, more) {
  const row = element("div", "row");
  /** @type {{draw: () => void}[]} */
  let all = [];

  /** For the scores that there are. */
  function build() {
    const orders = [["in order", "model"], ["highest first", "score"]], { measures } = state.scores;
    const fields = [
      choice(state, "score", "score", measures.map(({ name }) => [plain(name), name])),
      choice(state, "layers", "layer_order", orders), choice(state, "heads", "head_order", orders),
      box(state, "relative to chance", "relative"), box(state, "tagged only", "tagged_only"),
    ];
    all = fields;
    row.replaceChildren(...fields.map((field) => field.element), more);
  }
  function draw() { for (const field of all) field.draw(); }
  return { element: row, build, draw };
}

/** @param {State} state @param {string} label @param {"score"|"layer_order"|"head_order"} trait @param {string[][]} options  [what it is called, value] */
function choice(state, label, trait, options) {
  const select = element("select");
  for (const [text, value] of options) select.append(new Option(text, value));
  select.addEventListener("change", () => state.set({ [trait]: select.value }));
  return { element: element("label", "", `${label} `, select), draw: () => { select.value = state.get(trait); } };
}

/** Of patterns only. @param {State} state @param {string} label @param {"relative"|"tagged_only"} trait */
function box(state, label, trait) {
  const input = element("input");
  input.type = "checkbox";
  input.addEventListener("change", () => state.set({ [trait]: input.checked }));
  function draw() {
    input.checked = state.get(trait);
    input.disabled = !state.shown().measure.pattern;
  }
  return { element: element("label", "", input, ` ${label}`), draw };
}
