/** Numbers, verdicts and tables as this view writes them. */
import { element } from "../shared/dom.js";

export const NONE = "No token passes these filters; “all tokens” takes them away.";
export const percent = (share, digits = 1) => (Number.isFinite(share) ? `${(100 * share).toFixed(digits)} %` : "–");
export const fixed = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
export const yesNo = (value) => element("span", value ? "beyond" : "soft", value ? "yes" : "no");
/** Where a number lies beside what chance gives. */
export const verdict = (beyond, above) => element("span", beyond ? "beyond" : "soft", beyond ? (above ? "above" : "below") : "within");

/** The head of a column, defined where it stands. */
export const explained = (name, meaning) => {
  const node = element("span", "explained", name);
  node.title = meaning;
  return node;
};
/** A table of texts; a cell that is a node stays one; `texts` are the columns that are read from the left. */
export function tableOf(head, rows, texts = []) {
  const cell = (tag, value, column) => element(tag, texts.includes(column) ? "text" : "", value instanceof Node ? value : String(value));
  const body = element("tbody", "", ...rows.map((row) => element("tr", "", ...row.map((value, column) => cell("td", value, column)))));
  return element("table", "", element("thead", "", element("tr", "", ...head.map((value, column) => cell("th", value, column)))), body);
}
