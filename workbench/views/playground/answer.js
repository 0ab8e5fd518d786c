/** The answer, token by token: its colours and their legend, thinking that folds, the token that is selected. */
import { button, element, spell } from "../shared/dom.js";
import { TokenText } from "../shared/tokens.js";
import { colourClass, colourLegend } from "./token_colours.js";
import { thinkingWords } from "./words.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Step} Step */
/** @typedef {ReturnType<typeof answer>} Answer */

const COLOUR_CLASSES = ["c1", "c2", "c3", "c4"]; // of view.css; the first class of colour is none

/** @param {State} state */
export function answer(state) {
  const said = element("div", "said"), output = element("div", "output", said);
  said.dataset.empty = "The answer appears here, token by token. Point at a token, or move with the arrow keys, to see its alternatives.";
  said.setAttribute("role", "listbox");
  said.setAttribute("aria-label", "generated tokens; arrow keys move, Enter opens a token's alternatives");
  said.tabIndex = 0;
  const text = new TokenText(said, { scrolled: output, write, dress, open: openStretch, grown });
  state.steps = text.steps;
  const colour = colourChoice(state), fold = foldChoice(state);

  /** A token's text, which may be corrected later. @param {HTMLElement} node @param {Step} step */
  function write(node, step) {
    spell(node, step);
    node.classList.toggle("breaks", step.text.includes("\n"));
  }
  /** What stays with a token. @param {HTMLElement} node @param {Step} step @param {number} place */
  function dress(node, step, place) {
    if (step.given) node.classList.add("given");
    paint(node, step);
    node.tabIndex = -1;
    node.setAttribute("role", "option");
    node.dataset.place = String(place);
  }
  /** @param {HTMLElement} stretch @param {string} span */
  function openStretch(stretch, span) {
    if (span === "thinking") stretch.append(button("thinking", "", () => state.set({ folded: !state.get("folded") })));
  }
  /** @param {{changed: [number, Step][], fresh: Step[]}} sorted */
  function grown({ changed, fresh }) {
    drawFold();
    if (changed.length || fresh.some((step) => step.given || step.cut)) colour.draw();
  }

  /** @param {HTMLElement} node @param {Step} step */
  function paint(node, step) {
    const number = colourClass(step, state.get("colour"));
    if (number) node.classList.add(`c${number}`);
  }
  function drawColours() {
    colour.draw();
    text.nodes.forEach((node, place) => {
      node.classList.remove(...COLOUR_CLASSES);
      paint(node, text.steps[place]);
    });
  }
  function drawFold() {
    const folded = state.get("folded"), stretches = said.querySelectorAll(".stretch.thinking");
    fold.draw(stretches.length > 0);
    for (const stretch of stretches) {
      const [head] = stretch.children;
      stretch.classList.toggle("folded", folded);
      head.textContent = thinkingWords(stretch.querySelectorAll(".token").length, folded);
      head.setAttribute("aria-expanded", String(!folded));
    }
  }
  function drawSelected() {
    const selected = state.get("token");
    text.nodes.forEach((node, place) => node.setAttribute("aria-selected", String(place === selected)));
  }
  /** Text at the end that belongs to no token. */
  function drawTail() {
    said.querySelector(".tail")?.remove();
    if (state.told.status.tail) said.append(element("span", "tail", state.told.status.tail));
  }
  function drawRunning() { said.classList.toggle("caret", state.get("running")); }

  /** Another answer. @param {Step[]} steps */
  function rewrite(steps) {
    text.clear();
    text.take(0, steps);
    drawSelected();
  }

  state.on(["colour"], drawColours);
  state.on(["folded"], drawFold);
  state.on(["token"], drawSelected);
  const choices = element("div", "row", element("label", "soft", "colour ", colour.element), colour.legend, fold.element);
  return {
    elements: [choices, output], said, nodes: text.nodes, drawColours, drawFold, drawTail, drawRunning, rewrite,
    take: (from, steps) => text.take(from, steps),
  };
}

/** What the colours tell, and their legend. @param {State} state */
function colourChoice(state) {
  const select = element("select"), legend = element("span", "legend small soft");
  for (const name of ["none", "probability", "entropy", "surprisal"]) select.append(new Option(name, name));
  select.setAttribute("aria-label", "colour");
  select.addEventListener("change", () => state.set({ colour: select.value }));
  function draw() {
    const { missing } = state.told, { steps } = state, colouring = state.get("colour");
    select.value = colouring;
    for (const option of select.options) [option.disabled, option.title] = [Boolean(missing[option.value]), missing[option.value] || ""];
    const marks = colourLegend(colouring).map((words, number) => element("span", number ? `c${number}` : "", words));
    if (steps.some((step) => step.given)) marks.push(element("span", "given", "chosen by you"));
    if (steps.some((step) => step.cut)) marks.push(element("span", "", element("s", "", "cut off by the stop string")));
    legend.replaceChildren(...marks);
  }
  return { element: select, legend, draw };
}

/** Whether thinking is folded. @param {State} state */
function foldChoice(state) {
  const box = element("input"), label = element("label", "soft", box, " fold thinking");
  box.type = "checkbox";
  box.addEventListener("change", () => state.set({ folded: box.checked }));
  /** @param {boolean} thought  whether there is any */
  function draw(thought) {
    box.checked = state.get("folded");
    label.hidden = !thought;
  }
  return { element: label, draw };
}
