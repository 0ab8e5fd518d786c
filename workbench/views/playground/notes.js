/** What the page says in a line of its own, and what a screen reader is told. */
import { element } from "../shared/dom.js";

/** @typedef {ReturnType<typeof notes>} Notes */

export function notes() {
  const line = element("div", "note"), spoken = element("div", "spoken");
  line.hidden = true;
  line.setAttribute("role", "alert");
  spoken.setAttribute("aria-live", "polite");

  /** @param {string} text  "" takes back what was said @param {boolean} bad  whether something went wrong */
  function say(text, bad) {
    line.textContent = text || "";
    line.hidden = !text;
    line.classList.toggle("bad", Boolean(bad));
  }

  /** @param {string} text  for a screen reader alone */
  function speak(text) { spoken.textContent = text; }

  return { elements: [line, spoken], say, speak };
}
