/**
 * A page of several widgets that share their selection. `widgets` and `PAGE` stand before it: the views'
 * scripts, and what each part shows.
 */
import { standIn } from "./stand_in.js";

const parts = PAGE.parts.map((part) => ({ ...part, ...standIn(part.values, part.answers), section: document.createElement("section") }));
for (const note of PAGE.notes) document.querySelector("header").append(Object.assign(document.createElement("p"), { textContent: note }));
for (const { title, section } of parts) {
  section.setAttribute("aria-label", title);
  const button = document.createElement("button");
  button.textContent = title;
  button.setAttribute("aria-pressed", "true");
  button.addEventListener("click", () => {
    section.hidden = !section.hidden;
    button.setAttribute("aria-pressed", String(!section.hidden));
  });
  document.querySelector("nav").append(button);
  document.querySelector("main").append(section);
}
for (const [name, ends] of Object.entries(PAGE.sharing)) // trait → for each part the values that it can take, null if none
  parts.forEach(({ model }, from) => ends[from] && model.on("change:" + name, () => {
    const value = model.get(name);
    parts.forEach((other, to) => { if (to !== from && ends[to]?.includes(value)) other.model.set(name, value); });
  }));
for (const part of parts) widgets[part.widget].render({ model: part.model, el: part.section });
