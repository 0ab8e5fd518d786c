/** Settings under a name: chosen from a list, and kept under a new one. */
import { element } from "../shared/dom.js";

/** @param {import("./state.js").State} state */
export function presetChoice(state) {
  const select = element("select");
  select.addEventListener("change", () => state.set({ preset: select.value }));
  function draw() {
    const now = state.get("preset"), names = new Set([...state.told.presets, ...(now ? [now] : [])]); // another notebook may have saved it
    select.replaceChildren(new Option("custom", ""), ...[...names].map((name) => new Option(name, name)));
    select.value = now;
  }
  return { element: select, draw };
}

/** @param {import("./state.js").State} state */
export function presetForm(state) {
  const name = element("input"), form = element("form", "row", name, element("button", "", "save"));
  name.size = 14;
  name.placeholder = "name";
  name.setAttribute("aria-label", "name of your preset");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (name.value.trim()) state.send("save_preset", { name: name.value.trim() });
  });
  return { element: form, field: name };
}
