/** A table whose second column is text, all others numbers. */
import { element } from "../shared/dom.js";

/**
 * @param {string} caption
 * @param {string[]} head  of the columns
 * @param {(string|HTMLElement)[][]} rows
 * @returns {HTMLTableElement}
 */
export function numberTable(caption, head, rows) {
  const line = (tag, cells) => element("tr", "", ...cells.map((content, n) => element(tag, n === 1 ? "text" : "", content)));
  return element("table", "", element("caption", "", caption), element("thead", "", line("th", head)), element("tbody", "", ...rows.map((cells) => line("td", cells))));
}
