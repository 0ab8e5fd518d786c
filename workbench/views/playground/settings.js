/** How tokens are drawn and when it ends: a preset and a few numbers, and the rest under "more settings". */
import { button, element } from "../shared/dom.js";
import { fill, fillAnew } from "../shared/filled.js";
import { biasList } from "./bias.js";
import { labelled, numberField, writer } from "./fields.js";
import { presetChoice, presetForm } from "./presets.js";
import { linesOf, stringsOf, unusualSettings } from "./words.js";

/** @typedef {import("./state.js").State} State */

/** @param {State} state */
export function settings(state) {
  const preset = presetChoice(state), ownPreset = presetForm(state), bias = biasList(state), stops = stopStrings(state);
  const first = [
    numberField(state, "temperature", "temperature", { step: 0.1, min: 0, help: "0 always takes the most probable token" }),
    numberField(state, "max_new_tokens", "max tokens", { step: 1, min: 1, help: "the maximum number of new tokens" }),
    numberField(state, "seed", "seed", { step: 1, help: "the same seed, prompt and settings give the same text" }),
  ];
  const filters = [
    numberField(state, "top_p", "top-p", { step: 0.05, min: 0, max: 1, help: "keep the most probable tokens that together reach this probability; 1 keeps all" }),
    numberField(state, "top_k", "top-k", { step: 1, min: 0, help: "keep this many of the most probable tokens; 0 keeps all", off: 0 }),
    numberField(state, "min_p", "min-p", { step: 0.01, min: 0, max: 1, help: "keep tokens with at least this fraction of the best token's probability; 0 keeps all", off: 0 }),
    numberField(state, "repetition_penalty", "repetition penalty", { step: 0.05, min: 0, help: "above 1 makes tokens that already occurred less probable; 1 is off", off: 1 }),
  ];
  const numbers = [...first, ...filters];
  const toggle = button("", "", () => open(more.hidden), "bare small more-toggle");
  const more = element(
    "div", "more", element("div", "fields", ...filters.map((field) => field.element)),
    element("div", "lists", group("stop strings", stops.element), group("logit bias", ...bias.elements), group("save these settings as a preset", ownPreset.element)),
  );
  const fields = element("div", "fields", labelled("preset", preset.element), ...first.map((field) => field.element), toggle);

  /** @param {boolean} shown */
  function open(shown) {
    more.hidden = !shown;
    toggle.setAttribute("aria-expanded", String(shown));
    drawToggle();
  }
  function drawToggle() {
    const now = { preset: state.get("preset"), stop_strings: state.get("stop_strings"), logit_bias: state.get("logit_bias") };
    const unusual = unusualSettings({ ...now, ...Object.fromEntries(filters.map(({ trait }) => [trait, state.get(trait)])) }, state.told.usual);
    toggle.textContent = more.hidden ? `more settings ▸ ${unusual.join(", ")}`.trim() : "fewer settings ▾";
  }
  function draw() {
    for (const field of [...numbers, preset, stops, bias]) field.draw();
    drawToggle();
  }

  open(false);
  for (const field of numbers) state.on([field.trait], field.draw);
  state.on(["preset"], preset.draw);
  state.on(["stop_strings"], stops.draw);
  state.on([...filters.map(({ trait }) => trait), "preset", "stop_strings", "logit_bias"], drawToggle);
  return { element: element("div", "settings", fields, more), bias, preset, ownPreset, draw };
}

function group(text, ...parts) { return element("div", "", element("div", "small soft", text), ...parts); }

/** One a line, as with "\n" for a new line in them. @param {State} state */
function stopStrings(state) {
  const area = writer("stop strings, one a line", "one a line; \\n is a new line");
  function draw() { fill(area, linesOf(state.get("stop_strings"))); }
  area.addEventListener("change", () => {
    fillAnew(area);
    state.set({ stop_strings: stringsOf(area.value) });
    draw();
  });
  return { element: area, draw };
}
