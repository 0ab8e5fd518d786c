/** What is asked of all columns: the prompt, and what is the same for all texts. */
import { element } from "../shared/dom.js";
import { whyRefused } from "../shared/values.js";
import { earlierWords } from "./words.js";

/** @typedef {import("./state.js").State} State */

/** @param {State} state */
export function asked(state) {
  const area = element("textarea"), before = element("span", "soft small");
  area.dir = "auto";
  area.placeholder = "Ask something. Ctrl+Enter generates, Escape stops.";
  area.setAttribute("aria-label", "prompt to compare");
  area.addEventListener("change", () => state.set({ prompt: area.value }));

  function drawPrompt() { area.value = state.get("prompt"); }
  function drawMode() {
    const raw = state.get("mode") === "raw", strings = state.get("stop_strings");
    if (raw) area.placeholder = "The text for the model to continue.";
    state.root.classList.toggle("raw", raw);
    before.title = strings.length ? `stop strings: ${strings.join(", ")}` : "";
  }
  function drawEarlier() { before.textContent = earlierWords(state.told.before); }

  drawPrompt();
  drawMode();
  state.on(["prompt"], drawPrompt);
  state.on(["mode", "stop_strings"], drawMode);
  return { area, before, numbers: [numberOf(state, "seed", "seed"), numberOf(state, "max_new_tokens", "max tokens")], drawEarlier };
}

/** A whole number of all columns. @param {State} state @param {"seed"|"max_new_tokens"} trait @param {string} label */
function numberOf(state, trait, label) {
  const input = element("input");
  Object.assign(input, { type: "number", step: 1 });
  input.style.width = "7em";
  input.setAttribute("aria-label", label);
  const show = () => { input.value = String(state.get(trait)); };
  input.addEventListener("change", () => {
    const refused = whyRefused(label, input.value);
    state.say(refused);
    if (!refused && input.value !== "") state.set({ [trait]: Number(input.value) });
    show();
  });
  state.on([trait], show);
  show();
  return element("label", "soft", `${label} `, input);
}
