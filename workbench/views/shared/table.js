/** Tables of texts and elements. */
import { element } from "./dom.js";

/**
 * @param {(string | number | Node)[]} head   of the columns
 * @param {(string | number | Node)[][]} rows  [row][column]
 * @param {number[]} texts                     columns that are read from the left; the others are numbers
 * @returns {HTMLTableElement}
 */
export function tableOf(head, rows, texts = []) {
  const cell = (tag, value, column) => element(tag, texts.includes(column) ? "text" : "", value instanceof Node ? value : String(value));
  const body = element("tbody", "", ...rows.map((row) => element("tr", "", ...row.map((value, column) => cell("td", value, column)))));
  return element("table", "", element("thead", "", element("tr", "", ...head.map((value, column) => cell("th", value, column)))), body);
}

/** The head of a column, defined where it stands. */
export const explained = (name, meaning) => {
  const node = element("span", "explained", name);
  node.title = meaning;
  return node;
};
