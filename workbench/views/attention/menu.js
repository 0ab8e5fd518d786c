/** A menu with words before it. */
import { element } from "../shared/dom.js";

/**
 * @typedef {[value: string|number, text: string|number]} Entry
 *
 * @typedef Menu
 * @prop {HTMLLabelElement} holder  words and menu
 * @prop {HTMLSelectElement} select
 * @prop {(entries: Entry[]) => void} fill
 */

/**
 * @param {string} words
 * @param {(value: string) => void} choose
 * @param {string} label  for a screen reader
 * @returns {Menu}
 */
export function labelledMenu(words, choose, label = words) {
  /** @type {HTMLSelectElement} */
  const select = element("select");
  select.setAttribute("aria-label", label);
  select.addEventListener("change", () => choose(select.value));
  return {
    holder: element("label", "", `${words} `, select),
    select,
    fill: (entries) => select.replaceChildren(...entries.map(([value, text]) => new Option(String(text), String(value)))),
  };
}
