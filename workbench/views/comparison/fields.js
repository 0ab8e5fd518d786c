/** The fields of one column: its name and its settings. */
import { element, named } from "../shared/dom.js";
import { fill, fillAnew } from "../shared/filled.js";
import { whyRefused } from "../shared/values.js";
import { NUMBERS, newLabel, settingName } from "./settings.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./state.js").Settings} Settings */
/** @typedef {{element: HTMLElement, draw: (settings: Settings) => void}} Field */

/** @param {State} state @param {{place: number}} column */
export function nameField(state, column) {
  const input = element("input");
  input.addEventListener("change", () => {
    fillAnew(input);
    const columns = state.get("columns"), wanted = newLabel(input.value, columns, column.place);
    if (wanted) state.change(column.place, { label: wanted });
    else fill(input, columns[column.place].label);
  });
  /** @param {Settings} settings */
  function draw(settings) {
    fill(input, settings.label);
    named(input, `label of column ${column.place + 1}`);
  }
  return { element: input, draw };
}

/**
 * Those that stand open, and the rest; a model can be chosen where there are several.
 * @param {State} state
 * @param {{place: number}} column
 */
export function settingFields(state, column) {
  const { models } = state.told, choices = [];
  if (models.length > 1) choices.push(choiceField(state, column, "model", models, "wide"));
  choices.push(choiceField(state, column, "thinking", ["slow", "fast", "auto"], "chat-only"));
  const [temperature, ...rest] = NUMBERS.map(([setting, step]) => numberField(state, column, setting, step));
  return { first: [...choices, temperature], rest };
}

/** A control under its name. @param {string} setting @param {HTMLInputElement|HTMLSelectElement} control @returns {Field} */
function field(setting, control, className = "") {
  const words = settingName(setting);
  /** @param {Settings} settings */
  function draw(settings) {
    fill(control, settings[setting]);
    named(control, `${words} of ${settings.label}`);
  }
  return { element: element("label", `field ${className}`, element("span", "", words), control), draw };
}

/** @param {State} state @param {{place: number}} column @param {string} setting @param {string[]} options @param {string} className */
function choiceField(state, column, setting, options, className) {
  const control = element("select");
  for (const option of options) control.append(new Option(option, option));
  control.addEventListener("change", () => state.change(column.place, { [setting]: control.value }));
  return field(setting, control, className);
}

/** @param {State} state @param {{place: number}} column @param {string} setting @param {number} step  1 for whole numbers */
function numberField(state, column, setting, step) {
  const input = element("input");
  Object.assign(input, { type: "number", step, min: 0 });
  input.addEventListener("change", () => {
    fillAnew(input);
    const refused = step === 1 ? whyRefused(settingName(setting), input.value) : "";
    state.say(refused);
    if (refused || input.value === "") fill(input, state.get("columns")[column.place][setting]);
    else state.change(column.place, { [setting]: Number(input.value) });
  });
  return field(setting, input);
}
