/** Fields that settings and texts are typed into. */
import { element } from "../shared/dom.js";
import { fill, fillAnew } from "../shared/filled.js";
import { whyRefused } from "../shared/values.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {{trait: keyof import("./state.js").Model, element: HTMLElement, draw: () => void}} Field  of one setting */

/** A control under its name. @param {string} text @param {HTMLElement} control */
export function labelled(text, control) {
  control.setAttribute("aria-label", text); // a select's own label would hold all its options
  return element("label", "field", element("span", "", text), control);
}

/** A text area as high as what is in it. @param {string} label @returns {HTMLTextAreaElement} */
export function writer(label, placeholder, rows = 1) {
  const area = element("textarea");
  area.rows = rows;
  area.placeholder = placeholder;
  area.spellcheck = false;
  area.dir = "auto";
  area.setAttribute("aria-label", label);
  return area;
}

/**
 * What was typed as a number: its value, why it cannot be taken, or neither where nothing was typed.
 * @param {string} label
 * @param {string} typed
 * @param {boolean} whole  whether it must be a whole number
 * @returns {{value?: number, refused: string}}
 */
export function typedNumber(label, typed, whole) {
  const value = Number(typed), refused = whole ? whyRefused(label, typed) : "";
  return refused || typed === "" || !Number.isFinite(value) ? { refused } : { value, refused };
}

/**
 * A number among the settings. Where it cannot be had it is disabled, once it is off.
 * @param {State} state
 * @param {keyof import("./state.js").Model} trait
 * @param {string} label
 * @param {{step: number, min?: number, max?: number, help: string, off?: number}} how
 * @returns {Field}
 */
export function numberField(state, trait, label, { step, min, max, help, off }) {
  const input = element("input");
  Object.assign(input, { type: "number", step, min, max });
  function draw() {
    fill(input, state.get(trait));
    input.disabled = Boolean(state.told.missing[trait]) && state.get(trait) === off;
    input.title = state.told.missing[trait] || help;
  }
  input.addEventListener("change", () => {
    const { value, refused } = typedNumber(label, input.value, step >= 1);
    fillAnew(input);
    if (refused) state.say(refused, true);
    else if (value !== undefined) state.set({ [trait]: value });
    draw();
  });
  return { trait, element: labelled(label, input), draw };
}
